"""The bodies of answers, up to a limit: a small answer may unpack to any size, or never end."""

import zlib
from typing import Final

import httpx

MOST_BYTES: Final = 20_000_000
"""Of an answer, unpacked. A page of results of a portal has about a million."""

ENCODINGS: Final = "gzip, deflate"
"""What is unpacked here, as Accept-Encoding says it."""

_PACKED: Final = ("gzip", "deflate")
_GZIP_OR_ZLIB: Final = 47
_BARE: Final = -15


async def read_body(response: httpx.Response) -> bytes:
    """The body of an answer that is being received.

    Raises:
        httpx.DecodingError: where it is too large, or not packed as known.
        httpx.TransportError: where the connection breaks.
    """
    if response.is_stream_consumed:
        return response.content  # its transport read it, within the same limit
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MOST_BYTES:
            raise too_large()
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if not body or encoding in ("", "identity"):
        return bytes(body)
    if encoding not in _PACKED:
        raise httpx.DecodingError("The answer is packed in a way that was not asked for.")
    return unpacked(bytes(body))


def unpacked(body: bytes) -> bytes:
    """What gzip, zlib or bare deflate data hold.

    Raises:
        httpx.DecodingError: where they are broken, cut off, or hold too much.
    """
    for form in (_GZIP_OR_ZLIB, _BARE):
        unpacking = zlib.decompressobj(form)
        try:
            found = unpacking.decompress(body, MOST_BYTES + 1)
        except zlib.error:
            continue
        if len(found) > MOST_BYTES:
            raise too_large()
        if unpacking.eof:
            return found
    raise httpx.DecodingError("The answer is packed, and its data are broken.")


def too_large() -> httpx.DecodingError:
    return httpx.DecodingError(f"The answer has more than {MOST_BYTES:,} bytes.")
