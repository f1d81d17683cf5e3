"""The web dashboard: what is public of the competition, for those who look."""
