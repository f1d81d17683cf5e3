"""Every strategy: what it does, what it should earn, and how it is started."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sn46.localnet.strategies.manifests import (
    StaleNonce,
    after_the_deadline,
    at_leisure,
    back_dated,
)
from sn46.localnet.strategies.rows import (
    pack_fabricated,
    pack_invented,
    pack_padded,
    pack_wrong_zip,
)
from sn46.mechanism.reasons import Code
from sn46.miner.pipeline import Pipeline

_HONEST_MODULE: Final = "sn46.miner"
_CHEAT_MODULE: Final = "sn46.localnet.strategies"


@dataclass(frozen=True)
class StrategySpec:
    """One miner of the local network.

    Args:
        name: as on the command line.
        description: what it does, in a sentence.
        earns: what the mechanism gives it and why, in a sentence.
        reason: the reason that its report must carry; None where it must carry none.
        honest: whether it plays by the rules.
        environment: settings of its own, to be added to those that say where to connect.
        coldkey_of: the strategy whose coldkey it shares; None has its own.
        failing_share: what share of the ZIPs the portal is to refuse to it (its client rule
            ``fail_fraction``).
    """

    name: str
    description: str
    earns: str
    reason: Code | None = None
    honest: bool = False
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    coldkey_of: str | None = None
    failing_share: float = 0.0

    @property
    def module(self) -> str:
        """What ``python -m`` starts."""
        return _HONEST_MODULE if self.honest else _CHEAT_MODULE

    @property
    def arguments(self) -> tuple[str, ...]:
        """What comes after the module on the command line."""
        return () if self.honest else (self.name,)


def _pace(concurrency: int, requests_per_second: int) -> Mapping[str, str]:
    return {
        "CONCURRENCY": str(concurrency),
        "REQUESTS_PER_SECOND": str(requests_per_second),
    }


_FAST: Final = _pace(10, 40)
_NORMAL: Final = _pace(6, 8)
_SLOW: Final = _pace(2, 3)
_BRISK: Final = _pace(6, 12)
_DISQUALIFIED_BY_ONE: Final = "One proven fake disqualifies: score 0, no share."

_ALL: Final = (
    StrategySpec(
        name="honest-fast",
        description="Scrapes all ZIPs of the assignment, ten at a time.",
        earns="A place among the winners: complete, correct and within the grace.",
        honest=True,
        environment=_FAST,
    ),
    StrategySpec(
        name="honest",
        description="Scrapes all ZIPs of the assignment, six at a time.",
        earns="The same: who is complete and correct within the grace is equal, and a lot decides.",
        honest=True,
        environment=_NORMAL,
    ),
    StrategySpec(
        name="honest-slow",
        description="Scrapes all ZIPs of the assignment, two at a time and slowly.",
        earns="The same where it is done within the grace; after it speed costs it ranks, and "
        "it has a part of the shared 5 %.",
        honest=True,
        environment=_SLOW,
    ),
    StrategySpec(
        name="partial",
        description="Honest, but the portal refuses it four ZIPs in ten.",
        earns="A score for what it has: its volume is less.",
        honest=True,
        environment=_NORMAL,
        failing_share=0.4,
    ),
    StrategySpec(
        name="late",
        description="Uploads its files in time and the manifest, which completes a submission, "
        "just after the deadline.",
        earns="Nothing: the store refuses the manifest, and without one there is no submission.",
        reason=Code.MANIFEST_MISSING,
        environment=_NORMAL,
    ),
    StrategySpec(
        name="stale-nonce",
        description="Signs its manifest over the nonce of the epoch before, as if the work had "
        "been done in advance.",
        earns="Nothing: a submission must carry the nonce of its own epoch.",
        reason=Code.NONCE_MISMATCH,
        environment=_NORMAL,
    ),
    StrategySpec(
        name="back-dated",
        description="Uploads at leisure and writes into its manifest that it was made as the "
        "epoch began.",
        earns="What its true time earns: only the store's time of the manifest counts.",
        environment=_NORMAL,
    ),
    StrategySpec(
        name="padder",
        description="Repeats one home in twenty under another id and spelling.",
        earns="Nothing: over 1 % of its rows are duplicates by their normalised address.",
        reason=Code.DUPLICATES_OVER_LIMIT,
        environment=_NORMAL,
    ),
    StrategySpec(
        name="wrong-zip",
        description="Fills up each ZIP's folder with homes of another ZIP.",
        earns="Nothing: a row's ZIP must be its folder's.",
        reason=Code.WRONG_ZIPCODE,
        environment=_NORMAL,
    ),
    StrategySpec(
        name="fabricator",
        description="Makes up price, rooms and area of two homes in three, on real ids.",
        earns="Nothing: under 70 % of its checked rows agree with the portal, which disqualifies.",
        reason=Code.LOW_ACCURACY,
        environment=_NORMAL,
    ),
    StrategySpec(
        name="inventor",
        description="Adds homes that do not exist, three for every ten real ones.",
        earns=f"Nothing: the portal knows no such home, and nobody else saw it. "
        f"{_DISQUALIFIED_BY_ONE}",
        reason=Code.FAKE_LISTING,
        environment=_NORMAL,
    ),
    StrategySpec(
        name="second-hotkey",
        description="Honest, with a second hotkey of honest-fast's coldkey.",
        earns="Nothing more: a coldkey wins once, and it has no part of the shared 5 % beside a "
        "winner of its own.",
        reason=Code.COLDKEY_LIMIT,
        honest=True,
        environment=_BRISK,
        coldkey_of="honest-fast",
    ),
)

STRATEGIES: Final[Mapping[str, StrategySpec]] = {spec.name: spec for spec in _ALL}


def pipeline_of(name: str) -> Pipeline:
    """The steps of a strategy's miner. The honest ones have the miner's own.

    Raises:
        KeyError: where there is no such strategy.
    """
    spec = STRATEGIES[name]
    if spec.honest:
        return Pipeline()
    return {
        "late": Pipeline(manifest_at=after_the_deadline),
        "stale-nonce": Pipeline(manifest=StaleNonce()),
        "back-dated": Pipeline(manifest=back_dated, manifest_at=at_leisure),
        "padder": Pipeline(pack=pack_padded),
        "wrong-zip": Pipeline(pack=pack_wrong_zip),
        "fabricator": Pipeline(pack=pack_fabricated),
        "inventor": Pipeline(pack=pack_invented),
    }[name]
