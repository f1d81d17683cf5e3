"""Normalised addresses: what makes two spellings of one home the same (mechanism 5).

Upper case; every character but letters, digits, ``/`` and ``-`` becomes a space; runs of spaces
become one; then each word found in USPS Publication 28's tables becomes its standard abbreviation.
"""

import re

import polars as pl

from sn46.mechanism.usps import ABBREVIATIONS

_NO_WORD = re.compile(r"[^A-Z0-9/-]+")
CHANGED_WORDS = {word: standard for word, standard in ABBREVIATIONS.items() if word != standard}
_WORDS = list(CHANGED_WORDS)
_STANDARDS = list(CHANGED_WORDS.values())


def normalize_addresses(addresses: pl.Expr) -> pl.Expr:
    """The rule as a Polars expression over a string column; null stays null."""
    words = (
        addresses.str.to_uppercase()
        .str.replace_all(r"[^\p{L}\p{N}/-]+", " ")
        .str.strip_chars(" ")
        .str.split(" ")
    )
    return words.list.eval(pl.element().replace(_WORDS, _STANDARDS)).list.join(" ")


def normalize_address(address: str) -> str:
    """The rule for one address.

    >>> normalize_address("123 North Main Street, Apartment #4")
    '123 N MAIN ST APT 4'
    """
    if not address.isascii():
        return str(pl.select(normalize_addresses(pl.lit(address, dtype=pl.String))).item())
    # Most are ASCII, of which Python's letters and digits are Unicode's: one at a time, that is
    # 100 times faster than an expression.
    words = _NO_WORD.sub(" ", address.upper()).strip(" ").split(" ")
    return " ".join(CHANGED_WORDS.get(word, word) for word in words)
