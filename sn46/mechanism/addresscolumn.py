"""A column of addresses normalised as ``addresses.normalize_addresses`` does it, in less time.

Nearly all addresses are ASCII and of ordinary length. The bytes of all of them are one array, and
each step is one operation over it: what is no sign of a word becomes a space, words are what lies
between spaces, each word is two numbers that are looked up in the table, what it becomes is written
over it, and of several spaces one is left. Other addresses, and those with a word that would become
longer, are left to the expression.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sn46.mechanism.addresses import CHANGED_WORDS, normalize_addresses

_ORDINARY_BYTES: Final = 100
"""An address of one-letter words takes a hundred times its size on the way, and a hostile
submission is nothing else: where they have more on average, they are left to the expression."""

_SPACE: Final = 0x20
_SIGNS: Final = bytes(
    ord(sign.upper()) if sign.isascii() and (sign.isalnum() or sign in "/-") else _SPACE
    for sign in map(chr, range(256))
)
_SLOT_BITS: Final = 14
_FACTOR: Final = 0xE7D36F7DE6DD5019
"""With which no two words have the same slot."""

_Bytes = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint16]


class _Table:
    """Words that change, found by their bytes as two numbers, and what they become."""

    def __init__(self, changed: Mapping[str, str]) -> None:
        # The first is no word, and stands for all that are not here.
        words = ["", *changed]
        standards = ["", *changed.values()]
        self.longest = max(map(len, words))
        self.grows = np.array([len(s) > len(w) for w, s in zip(words, standards, strict=True)])
        self.low_standards = _numbers([standard.ljust(16)[:8] for standard in standards])
        self.high_standards = _numbers([standard.ljust(16)[8:] for standard in standards])
        self.sizes = np.array([len(standard) for standard in standards])
        self._low = _numbers([word[:8] for word in words])
        self._high = _numbers([word[8:] for word in words])
        self._at = np.zeros(1 << _SLOT_BITS, np.uint16)
        slots = self._slots(self._low, self._high)
        self._at[slots] = np.arange(len(words))
        if (self._at[slots] != np.arange(len(words))).any():
            raise AssertionError("two words have the same slot: take another factor")

    @staticmethod
    def _slots(low: _Numbers, high: _Numbers) -> _Numbers:
        factor = np.uint64(_FACTOR)
        return ((low ^ high * factor) * factor) >> np.uint64(64 - _SLOT_BITS)

    def numbers_of(self, low: _Numbers, high: _Numbers) -> _Words:
        """The number of each word, 0 for one that is not here."""
        found = self._at[self._slots(low, high)]
        return found * ((self._low[found] == low) & (self._high[found] == high))


def _numbers(texts: list[str]) -> _Numbers:
    """Up to eight signs of ASCII each, the first the lowest."""
    return np.array([int.from_bytes(text.encode(), "little") for text in texts], np.uint64)


_TABLE: Final = _Table(CHANGED_WORDS)
# What of eight bytes of ASCII, and of the eight behind them, belongs to a word of so many letters.
_MASKS: Final = _numbers(["\x7f" * min(size, 8) for size in range(_TABLE.longest + 1)])
_HIGH_MASKS: Final = _numbers(["\x7f" * max(0, size - 8) for size in range(_TABLE.longest + 1)])
_PADDING: Final = bytes([_SPACE]) * 16


def normalize_column(addresses: pl.Series) -> pl.Series:
    """The addresses normalised; null stays null."""
    if not addresses.len():
        return addresses
    plain, others = addresses, np.array([], np.int64)
    joined: str = plain.str.join("\n").item()
    if addresses.null_count() or not joined.isascii():
        is_plain = (addresses.str.len_bytes() == addresses.str.len_chars()).fill_null(value=False)
        others = (~is_plain).arg_true().to_numpy().astype(np.int64)
        plain = addresses.zip_with(is_plain, pl.Series([""]))
        joined = plain.str.join("\n").item()
    if len(joined) > _ORDINARY_BYTES * addresses.len():
        return _by_expression(addresses)
    changed, grown = _normalize_ascii(joined, plain.str.len_bytes().to_numpy())
    left = np.union1d(others, grown)
    changed = changed.alias(addresses.name)
    return changed.scatter(left, _by_expression(addresses[left])) if len(left) else changed


def _by_expression(addresses: pl.Series) -> pl.Series:
    return addresses.to_frame().select(normalize_addresses(pl.col(addresses.name))).to_series()


def _normalize_ascii(joined: str, sizes: npt.NDArray[np.uint32]) -> tuple[pl.Series, _Places]:
    """The addresses, given with one sign between each two and with their sizes, and which of them
    have a word that grows: those are not done."""
    text = bytearray(b" " + joined.encode().translate(_SIGNS) + _PADDING)
    signs: _Bytes = np.frombuffer(text, np.uint8)
    starts, lengths = _words(signs)
    # Where each address begins, and behind the last one; and its first word.
    begins = np.concatenate(([1], 1 + np.cumsum(sizes + 1, dtype=np.int64)))
    firsts = np.searchsorted(starts, begins)
    numbers = _numbers_of(signs, starts, lengths)
    grown = np.flatnonzero(_TABLE.grows[numbers])
    numbers[grown] = 0
    changes = np.flatnonzero(numbers)
    _write(signs, starts[changes], lengths[changes], numbers[changes])
    lengths[changes] = _TABLE.sizes[numbers[changes]]
    # What is in a word is kept, and the space behind it, but for an address's last one.
    lasts = firsts[1:][firsts[1:] > firsts[:-1]] - 1
    kept = signs != _SPACE
    kept[1:] |= kept[:-1]
    kept[starts[lasts] + lengths[lasts]] = False
    lengths += 1
    lengths[lasts] -= 1
    places = np.concatenate(([0], np.cumsum(lengths)))[firsts]
    return _strings(places, signs[kept]), np.searchsorted(firsts, grown, side="right") - 1


def _words(signs: _Bytes) -> tuple[_Places, _Places]:
    """Where words begin, and their lengths."""
    in_word = signs != _SPACE
    edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
    return edges[0::2], edges[1::2] - edges[0::2]


def _numbers_of(signs: _Bytes, starts: _Places, lengths: _Places) -> _Words:
    """Each word's number in the table, 0 for one that does not change."""
    numbers = np.zeros(len(starts), np.uint16)
    maybe = np.flatnonzero((signs[starts] >= ord("A")) & (lengths <= _TABLE.longest))
    starts, lengths = starts[maybe], lengths[maybe]
    eights = _eights(signs)
    low = eights[starts] & _MASKS[lengths]
    high = np.zeros_like(low)
    long = np.flatnonzero(lengths > 8)
    high[long] = eights[starts[long] + 8] & _HIGH_MASKS[lengths[long]]
    numbers[maybe] = _TABLE.numbers_of(low, high)
    return numbers


def _write(signs: _Bytes, starts: _Places, lengths: _Places, numbers: _Words) -> None:
    """Write over each of these words what it becomes, and spaces over the rest of it."""
    eights = _eights(signs)
    long = np.flatnonzero(lengths > 8)
    for places, masks, standards in (
        (starts, _MASKS[lengths], _TABLE.low_standards[numbers]),
        (starts[long] + 8, _HIGH_MASKS[lengths[long]], _TABLE.high_standards[numbers[long]]),
    ):
        # The signs behind a word are written again as they were; where another word begins among
        # them, that is written after this one.
        eights[places] = eights[places] & ~masks | standards & masks


def _eights(signs: _Bytes) -> _Numbers:
    """From each place on, eight bytes as a number, the first the lowest."""
    return np.ndarray((len(signs) - 7,), "<u8", signs.data, strides=(1,))


def _strings(places: _Places, signs: _Bytes) -> pl.Series:
    """Texts, given where each begins in these bytes and where the last one ends."""
    buffers: list[Any] = [None, pa.py_buffer(places), pa.py_buffer(signs)]
    return pl.Series(pa.Array.from_buffers(pa.large_string(), len(places) - 1, buffers))
