"""Who runs what root may not run."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from sn46.localnet.errors import LocalnetError

_UNPRIVILEGED = ("postgres", "pgserver", "nobody")
"""Accounts to run PostgreSQL under, the first that exists. None is made: that would stay behind."""


@dataclass(frozen=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    gid: int

    @property
    def ids(self) -> str:
        """UID:GID."""
        return f"{self.uid}:{self.gid}"


def unprivileged() -> Account | None:
    """Who a program runs as that refuses to run as root; None where this process is not root.

    Raises:
        LocalnetError: where there is no such account.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise LocalnetError(
        "PostgreSQL does not run as root, and this machine has none of the accounts "
        f"{', '.join(_UNPRIVILEGED)}. Run this as an ordinary user."
    )


def check_reach(account: Account, path: Path) -> None:
    """Refuse a path that an account cannot get to.

    Raises:
        LocalnetError: with the folder that is closed to it.
    """
    resolved = path.resolve()
    for folder in reversed(resolved.parents):
        if not _may_pass(account, folder):
            raise LocalnetError(
                f"PostgreSQL does not run as root, and {account.name}, under whose name it would "
                f"run, may not pass through {folder} to {resolved}. Run this as an ordinary user, "
                f"or choose a place elsewhere, or open that folder (chmod o+x {folder})."
            )


def _may_pass(account: Account, folder: Path) -> bool:
    info = folder.stat()
    if info.st_uid == account.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == account.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)
