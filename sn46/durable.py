"""Files that are there as a whole or not at all, whatever ends a process or a machine."""

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, body: bytes, *, private: bool = False) -> None:
    """Write a file whole or not at all; what was there before stays until then.

    Args:
        private: nobody but its owner may read it, at no moment.

    Raises:
        OSError: where the disk is full or not writable.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(part, flags, 0o600 if private else 0o666), "wb") as file:
            file.write(body)
        put_in_place(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def put_in_place(part: Path, path: Path) -> None:
    """Give a finished file its name once its bytes are on the disk.

    Raises:
        OSError: where the disk refuses.
    """
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
