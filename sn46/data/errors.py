"""What can go wrong for who reads the data. Each message is written for that person."""


class DataError(Exception):
    """It could not be done now: the disk, the store or another program is in the way."""


class QueryError(Exception):
    """The question cannot be answered as it was asked; one line that says why."""


class RegisterError(DataError):
    """The table could not be opened or appended to."""
