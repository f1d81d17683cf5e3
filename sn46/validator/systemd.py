"""Talking to systemd: ready, alive, stopping (its sd_notify protocol, datagrams of ``NAME=value``
lines to the socket that NOTIFY_SOCKET names)."""

import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Self

import structlog

_log = structlog.get_logger("sn46.validator")
_MOST_STATUS: Final = 500


class Notifier:
    """Tells a supervisor how the validator is; without one it tells nobody.

    A socket that refuses is logged once, and never stops anything.
    """

    def __init__(self, address: str | None, watchdog: timedelta | None = None) -> None:
        """``address`` is a socket's path, or ``@`` and an abstract socket's name; ``watchdog`` is
        how long the supervisor waits for a sign of life, None where it does not."""
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self.watchdog = watchdog if address else None
        self._failed = False
        self._status = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Self:
        """As systemd sets NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID (whose process is
        watched, where that is not everybody's)."""
        microseconds = environment.get("WATCHDOG_USEC", "")
        watched = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog = None
        if watched and microseconds.isdecimal() and int(microseconds) > 0:
            watchdog = timedelta(microseconds=int(microseconds))
        return cls(environment.get("NOTIFY_SOCKET") or None, watchdog)

    def ready(self) -> None:
        self._send("READY=1")

    def alive(self, status: str) -> None:
        """The sign of life that the watchdog waits for, with a line for ``systemctl status``."""
        self._send("WATCHDOG=1", *self._changed(status))

    def unwell(self, status: str) -> None:
        """No sign of life, only why there is none."""
        self._send(*self._changed(status))

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _changed(self, status: str) -> list[str]:
        line = " ".join(status.split())[:_MOST_STATUS]
        if line == self._status:
            return []
        self._status = line
        return [f"STATUS={line}"]

    def _send(self, *lines: str) -> None:
        if self._address is None or not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                _log.warning("systemd cannot be told how the validator is", fault=str(error))
            self._failed = True
        else:
            self._failed = False
