"""Writing so that it survives a crash, and saying in words where the disk refuses."""

from pathlib import Path


class SpoolError(Exception):
    """The spool cannot be used. The message says what to do."""


class writing:  # noqa: N801 - reads as a verb where it is used
    """Turns a disk's refusal into a SpoolError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise SpoolError(
                f"{self._path} cannot be written ({error.strerror}). Free some space, or give "
                "DATA_DIR a directory that this user may write."
            ) from error


def read_bytes(path: Path) -> bytes | None:
    """A file's bytes; None where there is none.

    Raises:
        SpoolError: where it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpoolError(f"{path} cannot be read ({error.strerror}).") from error
