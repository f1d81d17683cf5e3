"""Proxies: how they are written, where they are listed, and how they are kept secret.

A proxy's credentials are in its ``url`` alone. Its ``str`` and ``repr`` are ``host:port``, and no
error quotes the text that a proxy was read from.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import httpx
from pydantic import SecretStr

_SCHEMES: Final = ("http", "https")
MOST_PROXIES: Final = 1_000
"""More of a list are not used."""

_FOUR_PARTS: Final = re.compile(r"([^:/@\s]+):(\d{1,5}):([^:@\s]+):(\S+)")


class ProxyError(Exception):
    """A proxy setting that cannot be used. The text names its place, never its content."""


@dataclass(frozen=True)
class Proxy:
    """One proxy. ``url`` holds its credentials and is for the connection alone."""

    url: str = field(repr=False)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
            httpx.URL(self.url)  # the client must be able to read it too
        except (ValueError, httpx.InvalidURL):
            host, port, parts = None, None, urlsplit("")
        if parts.scheme not in _SCHEMES or not host or port is None:
            raise ProxyError(
                "a proxy is written http://user:password@host:port (https:// too), host:port or "
                "host:port:user:password"
            )
        object.__setattr__(self, "label", f"{host}:{port}")

    @property
    def is_tls(self) -> bool:
        """Whether the connection to the proxy itself is encrypted."""
        return self.url.startswith("https:")

    def __str__(self) -> str:
        return self.label


def parse_proxy(text: str) -> Proxy:
    """One proxy from ``http://user:password@host:port``, ``host:port`` or
    ``host:port:user:password``.

    Raises:
        ProxyError: where it is none of these.
    """
    text = text.strip()
    if match := _FOUR_PARTS.fullmatch(text):
        host, port, user, password = match.groups()
        return Proxy(f"http://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}")
    return Proxy(text if "://" in text else f"http://{text}")


def proxies_from(entries: Iterable[str | SecretStr]) -> tuple[Proxy, ...]:
    """Proxies from a list, each once.

    Raises:
        ProxyError: naming the entry by its number.
    """
    found: dict[Proxy, None] = {}
    for number, entry in enumerate(entries, 1):
        text = entry.get_secret_value() if isinstance(entry, SecretStr) else entry
        try:
            found[parse_proxy(text)] = None
        except ProxyError as error:
            raise ProxyError(f"Proxy {number} of the list cannot be read: {error}.") from None
    return tuple(found)


def proxies_from_setting(value: str | SecretStr) -> tuple[Proxy, ...]:
    """Proxies from one setting, separated by commas or blanks; empty for none.

    Raises:
        ProxyError: as :func:`proxies_from`.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return proxies_from(text.replace(",", " ").split())


def read_proxy_file(path: Path) -> tuple[Proxy, ...]:
    """Proxies from a file, one a line; blank lines and lines that start with ``#`` are skipped.

    Raises:
        ProxyError: where the file cannot be read, or naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ProxyError(f"The proxy file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise ProxyError(f"The proxy file {path} is not a text file.") from None
    found: dict[Proxy, None] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found[parse_proxy(line)] = None
            except ProxyError as error:
                raise ProxyError(f"{path}, line {number}: {error}.") from None
    return tuple(found)


def proxies_in(text: str) -> tuple[tuple[Proxy, ...], int]:
    """The proxies of a list from elsewhere, one a line, each once, and how many lines are none."""
    found: dict[Proxy, None] = {}
    wrong = 0
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found[parse_proxy(line)] = None
            except ProxyError:
                wrong += 1
    return tuple(found), wrong


class ProxyList:
    """The proxies that there are now. Pools that were made of it follow each change, at their next
    request.

    Args:
        proxies: those to begin with.
        required: whether an empty list means to wait for the first proxy; otherwise it means to
            ask directly.
    """

    def __init__(self, proxies: Iterable[Proxy] = (), *, required: bool = False) -> None:
        self._proxies = tuple(dict.fromkeys(proxies))
        self.required = required
        self.version = 0

    @property
    def proxies(self) -> tuple[Proxy, ...]:
        """All of them, each once."""
        return self._proxies

    def replace(self, proxies: Iterable[Proxy]) -> None:
        """From now on there are these."""
        new = tuple(dict.fromkeys(proxies))
        if new != self._proxies:
            self._proxies = new
            self.version += 1
