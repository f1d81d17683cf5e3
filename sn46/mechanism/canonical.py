"""Canonical JSON, hashes and keyed hashes: the bytes that every machine agrees on.

"Canonical JSON" is UTF-8, keys sorted, separators ``,`` and ``:``, no ASCII escaping.
All hashes are SHA-256 in lower-case hex (mechanism, preamble).
"""

import hashlib
import hmac
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """The canonical bytes of a JSON value.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
        TypeError: for values that JSON does not have.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_hex(data: bytes | str) -> str:
    """SHA-256 of bytes, or of a text's UTF-8, as 64 lower-case hex digits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, lower-case hex."""
    return sha256_hex(canonical_json(value))


def hmac_hex(key: bytes, message: str) -> str:
    """HMAC-SHA-256 of a text under ``key``, lower-case hex."""
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()
