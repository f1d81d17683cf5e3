"""JSON as portals send it, and what is no text in it."""

import pytest

from sn46.sources.base import SourceChanged
from sn46.sources.reading import loads


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'{"city": "\ud83c\udfe0"}', {"city": "\U0001f3e0"}),  # two halves are a sign
        (rb'{"city": "Cr\ud83cte", "\udfe0": 1.5}', {"city": "Cr?te", "?": 1.5}),
        (rb'["\\ud83c"]', [r"\ud83c"]),  # a backslash, and letters
        (b'\xef\xbb\xbf"Cr\xc3\xaate"', "Crête"),
    ],
)
def test_texts_are_whole(body: bytes, value: object) -> None:
    assert loads(body) == value


@pytest.mark.parametrize("body", [b'"\xed\xa0\xbc"', '"a"'.encode("utf-16"), b"[NaN]", b"[1,"])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(SourceChanged):
        loads(body)
