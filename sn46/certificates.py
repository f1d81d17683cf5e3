"""The certificates that HTTPS clients of this process trust."""

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """httpx's own choice of certificates, read once: each reading takes 50 ms of a core, and a
    service opens several clients. To be given to a client as ``verify``."""
    return httpx.create_ssl_context()
