"""For people who read the data: published epochs collected, asked with SQL, kept as a table."""
