"""The pages, each a function of the snapshot, the moment and the thresholds."""
