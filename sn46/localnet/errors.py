"""What can go wrong with a local network, as types whose text is for its user."""


class LocalnetError(Exception):
    """The local network cannot start or go on. The message says why and what to do."""


class OptionError(LocalnetError):
    """An option that cannot be used."""


class DataDirError(LocalnetError):
    """A data directory that cannot be used."""
