"""Hotkey signatures over documents: verifying is pure, so it is a part of the rules.

A document is signed over its canonical JSON without its ``signature`` field; the signature
is 64 bytes of sr25519 in hex, with or without ``0x`` (mechanism 3, 4 and 8).
"""

from collections.abc import Mapping
from typing import Any, Protocol, cast

import bittensor_core

from sn46.mechanism.canonical import canonical_json
from sn46.mechanism.names import Hotkey

_core: Any = bittensor_core  # a compiled module without type information
_SR25519: int = _core.CRYPTO_SR25519
_SIGNATURE_BYTES = 64


class Signer(Protocol):
    """Whatever can sign as one hotkey: a bittensor ``Keypair`` does."""

    @property
    def ss58_address(self) -> str:
        """The address that the signature verifies against."""
        ...

    def sign(self, data: bytes) -> bytes:
        """64 bytes of sr25519 signature over ``data``."""
        ...


def verify_signature(message: bytes, signature_hex: str, hotkey: str) -> bool:
    """Whether ``hotkey`` signed ``message``. Malformed input is False, never an error."""
    try:
        signature = bytes.fromhex(signature_hex.removeprefix("0x"))
        if len(signature) != _SIGNATURE_BYTES:
            return False
        return bool(_core.verify(message, signature, hotkey, _SR25519))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return False


def is_hotkey(text: str) -> bool:
    """Whether a text is a well-formed ss58 address."""
    try:
        _core.ss58_decode(text)
    except (ValueError, TypeError):
        return False
    return True


def signed_bytes(document: Mapping[str, Any]) -> bytes:
    """What a document's signature covers: its canonical JSON without ``signature``."""
    return canonical_json({key: value for key, value in document.items() if key != "signature"})


def sign_document(document: Mapping[str, Any], signer: Signer) -> dict[str, Any]:
    """The document with ``signature`` added, as lower-case hex without ``0x``."""
    signature = bytes(signer.sign(signed_bytes(document))).hex()
    return {**document, "signature": signature}


def verify_document(document: Mapping[str, Any], hotkey: str) -> bool:
    """Whether a document carries a valid signature of ``hotkey``. Never raises."""
    signature = document.get("signature")
    if not isinstance(signature, str):
        return False
    try:
        message = signed_bytes(document)
    except (ValueError, TypeError, RecursionError):
        return False
    return verify_signature(message, signature, hotkey)


def address_of(signer: Signer) -> Hotkey:
    """A signer's hotkey."""
    return cast(Hotkey, signer.ss58_address)
