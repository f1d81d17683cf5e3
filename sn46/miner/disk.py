"""Writing so that it survives a crash, and saying in words where the disk refuses."""

import os
from pathlib import Path

from sn46.durable import sync_folder


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


def write_whole(path: Path, body: bytes) -> None:
    """Write whole or not at all, and only return once it would survive a power cut.

    Raises:
        OSError: where the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


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
