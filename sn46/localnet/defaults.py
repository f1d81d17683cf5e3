"""What a local network is unless told otherwise. Loads nothing: the command line reads it."""

EPOCH_SECONDS = 90
"""On two cores half of it is enough for twelve miners; the rest is for slower machines."""

VALIDATORS = 3
TARGET_LISTINGS = 2_000
