"""Options are checked before anything is started."""

import pytest

from sn46.localnet.errors import OptionError
from sn46.localnet.options import Chaos, LocalnetOptions, parse_miners
from sn46.localnet.strategies import STRATEGIES


def test_by_default_every_strategy_once_and_three_validators() -> None:
    options = LocalnetOptions()
    assert options.miners == tuple(STRATEGIES)
    assert len(options.miners) == 12
    assert options.validators == 3


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"epoch_seconds": 30}, "at least 60"),
        ({"epoch_seconds": 7000}, "divide a day"),
        ({"validators": 0}, "--validators"),
        ({"validators": 17}, "--validators"),
        ({"replicas": 0}, "--replicas"),
        ({"replicas": 9}, "--replicas"),
        ({"chaos": frozenset({Chaos.KILL_REPLICA})}, "needs --replicas 2"),
        ({"target_listings": 0}, "--target-listings"),
        ({"seed": ""}, "--seed"),
        ({"miners": ("honest",) * 201}, "200"),
    ],
)
def test_what_cannot_be_is_said(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        LocalnetOptions(**wrong)  # type: ignore[arg-type]


def test_a_list_of_miners() -> None:
    assert parse_miners("honest, padder,honest") == ("honest", "padder", "honest")
    assert parse_miners("all") == parse_miners("") == tuple(STRATEGIES)
    with pytest.raises(OptionError, match="Did you mean padder"):
        parse_miners("honest,paddr")
