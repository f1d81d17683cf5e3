"""Blocks without a daemon: number, time and hash of each follow from the chain's own constants."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TAG_BYTES = 24

FINALITY_LAG = 1
"""Blocks that the finalized head is behind the best one."""


def to_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970, rounded down: the unit of the chain's timestamps."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


@dataclass(frozen=True)
class BlockRule:
    """How blocks follow from time. Block n is produced at genesis + n × block_ms.

    A hash is an HMAC under a secret that is drawn when the chain is created, so nobody without
    the file can know it before. It carries its own number, encrypted with a second HMAC, so that
    a hash is resolved by any process without a table of all blocks.
    """

    genesis_ms: int
    block_ms: int
    secret: bytes

    def head_at(self, moment: datetime) -> int:
        """The newest block that exists at a moment; 0, genesis, at any moment before."""
        return max(0, (to_ms(moment) - self.genesis_ms) // self.block_ms)

    def timestamp_ms(self, number: int) -> int:
        return self.genesis_ms + number * self.block_ms

    def hash_of(self, number: int) -> str:
        """64 hex digits after ``0x``, as a real block's."""
        plain = number.to_bytes(8, "big")
        tag = self._mac(b"block:" + plain)[:_TAG_BYTES]
        return "0x" + (_xor(plain, self._mac(b"number:" + tag)) + tag).hex()

    def number_of(self, block_hash: str) -> int | None:
        """The number behind a hash of this chain; None for any other text."""
        try:
            raw = bytes.fromhex(block_hash.removeprefix("0x"))
        except ValueError:
            return None
        number = int.from_bytes(_xor(raw[:8], self._mac(b"number:" + raw[8:])), "big")
        return number if self.hash_of(number) == "0x" + raw.hex() else None

    def _mac(self, text: bytes) -> bytes:
        return hmac.new(self.secret, text, hashlib.sha256).digest()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=False))
