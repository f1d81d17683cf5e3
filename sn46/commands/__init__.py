"""Groups of commands that are too large for ``sn46/cli.py``, which only hangs them in."""
