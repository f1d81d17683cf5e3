"""What is compared, and what is said of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.chain.weights import U16_MAX, to_ppm
from sn46.localnet.results import weights_agree
from sn46.localnet.status import Status, read_status
from sn46.localnet.words import report_lines, verdict
from sn46.mechanism.names import PPM, Hotkey


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=40))
def test_weights_that_went_through_the_chain_agree(parts: list[int]) -> None:
    report = to_ppm({Hotkey(f"h{n}"): part for n, part in enumerate(parts)})
    largest = max(report.values())
    # The SDK scales the largest to 65,535 and rounds.
    on_chain = to_ppm({h: round(w * U16_MAX / largest) for h, w in report.items()})
    assert weights_agree(report, on_chain)


def test_other_weights_do_not_agree() -> None:
    a, b = Hotkey("a"), Hotkey("b")
    assert not weights_agree({a: 500_000, b: 500_000}, {a: 501_000, b: 499_000})
    assert not weights_agree({a: PPM}, {b: PPM})
    assert not weights_agree({a: PPM}, {})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"valid": True, "reasons": []}, "yes"),
        (
            {"valid": True, "reasons": [{"code": "coldkey_limit"}]},
            "yes, but its coldkey has won already",
        ),
        ({"valid": False, "reasons": [{"code": "wrong_zipcode"}]}, "no: wrong ZIP code"),
        (
            {"valid": True, "disqualified": True, "reasons": [{"code": "fake_listing"}]},
            "disqualified: a home that does not exist",
        ),
    ],
)
def test_the_verdict_in_words(entry: dict[str, object], said: str) -> None:
    assert verdict(entry) == said


def test_a_status_of_either_form(tmp_path) -> None:
    miner, validator, broken = (tmp_path / name for name in ("m", "v", "b"))
    miner.write_text(
        '{"phase": "scraping", "epoch_id": "e", "zips_done": 2, "zips_total": 6, "rows": 80,'
        ' "zips_failed": 1, "detail": null}'
    )
    validator.write_text('{"phase": "checking", "done": 3, "of": 9, "note": "", "epoch_id": "e"}')
    broken.write_text('{"phase"')
    assert read_status(miner) == Status("scraping", 2, 6, "80 homes, 1 ZIPs incomplete", "e")
    assert read_status(validator) == Status("checking", 3, 9, "", "e")
    assert read_status(broken) == read_status(tmp_path / "none") == Status()


def test_a_lot_is_named_where_it_decided() -> None:
    def said(*finals: int) -> str:
        miners = {f"m{n}": {"rank": n, "final": final} for n, final in enumerate(finals, start=1)}
        miners["out"] = {"rank": None, "final": 0}
        return "\n".join(line.plain for line in report_lines({"miners": miners}, names={}))

    assert "a lot after the deadline" in said(9, 9, 8)
    assert said(9, 8, 7, 7, 7) == ""
    assert said() == ""
