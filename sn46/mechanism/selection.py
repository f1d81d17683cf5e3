"""How a draw was made, as its assignment says it: enough to make it again (mechanism 2 and 3)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias, cast

from sn46.mechanism.drawinputs import DrawRules
from sn46.mechanism.names import EpochId
from sn46.mechanism.reported import ReportedEpoch
from sn46.mechanism.target import adaptive_target

LARGEST_SETTING: Final = 1_000_000_000
"""No setting of a draw is larger, so that no arithmetic with one overflows."""
_ELSEWHERE: Final = ("target_listings", "tolerance_percent")
"""These two stand in the assignment itself."""


@dataclass(frozen=True)
class FixedTarget:
    """The owner set the target."""

    def to_json(self) -> dict[str, Any]:
        return {"mode": "fixed"}


@dataclass(frozen=True)
class AdaptiveTarget:
    """The target follows from the one before and from the last validated epochs, oldest first.

    All targets are in listings. For the first draw on record, ``previous`` is the owner's setting.
    """

    previous: int
    least: int
    most: int
    epochs: tuple[ReportedEpoch, ...]

    @property
    def target(self) -> int:
        """The target that follows."""
        volumes = [epoch.volume for epoch in self.epochs]
        return adaptive_target(self.previous, volumes, least=self.least, most=self.most)

    def to_json(self) -> dict[str, Any]:
        return {
            "mode": "adaptive",
            "previous": self.previous,
            "least": self.least,
            "most": self.most,
            "epochs": [
                {
                    "epoch_id": epoch.epoch_id,
                    "target": epoch.target,
                    "participants": epoch.participants,
                    "reached": epoch.reached,
                }
                for epoch in self.epochs
            ],
        }


TargetBasis: TypeAlias = FixedTarget | AdaptiveTarget


@dataclass(frozen=True)
class Selection:
    """How the draw was made, so that anyone can make it again.

    ``commitment`` is hash(seed) of this draw, ``next_commitment`` that of the following one,
    ``relaxed`` the names of the quotas that the draw had to give up, in order. ``draw_rules`` are
    the owner's settings at the time, ``target_basis`` what their target follows from.
    """

    algorithm: str
    commitment: str
    next_commitment: str
    seed: str | None
    table_version: str
    draw_rules: DrawRules
    target_basis: TargetBasis
    relaxed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "algorithm": self.algorithm,
            "commitment": self.commitment,
            "next_commitment": self.next_commitment,
            "seed": self.seed,
            "table_version": self.table_version,
            "draw_rules": draw_rules_json(self.draw_rules),
            "target_basis": self.target_basis.to_json(),
            "relaxed": list(self.relaxed),
        }


def read_selection(value: Mapping[str, Any], target: Any, tolerance: Any) -> Selection:
    """Read ``selection`` of an assignment that asks for ``target`` listings ± ``tolerance`` %.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: where a field is missing or malformed.
        DrawError: where the draw's rules are none.
    """
    return Selection(
        algorithm=str(value["algorithm"]),
        commitment=str(value["commitment"]),
        next_commitment=str(value["next_commitment"]),
        seed=None if value["seed"] is None else str(value["seed"]),
        table_version=str(value["table_version"]),
        draw_rules=_read_draw_rules(value["draw_rules"], target, tolerance),
        target_basis=_read_target_basis(value["target_basis"]),
        relaxed=tuple(str(name) for name in value["relaxed"]),
    )


def draw_rules_json(rules: DrawRules) -> dict[str, Any]:
    """The rules of a draw as ``selection.draw_rules`` has them: states sorted, null for all;
    without target and tolerance, which stand in the assignment itself."""
    values: dict[str, Any] = {name: getattr(rules, name) for name in _RULE_NAMES}
    states = rules.eligible_states
    values["eligible_states"] = None if states is None else sorted(states)
    values["tier_shares"] = list(rules.tier_shares)
    return values


_RULE_NAMES: Final = tuple(f.name for f in fields(DrawRules) if f.name not in _ELSEWHERE)


def _read_draw_rules(value: Mapping[str, Any], target: Any, tolerance: Any) -> DrawRules:
    names = set(_RULE_NAMES) - {"eligible_states", "tier_shares"}
    states = cast(list[object] | None, value["eligible_states"])
    premium, standard, emerging = map(_count, value["tier_shares"])
    return DrawRules(
        target_listings=_count(target),
        tolerance_percent=_count(tolerance),
        eligible_states=None if states is None else frozenset(map(str, states)),
        tier_shares=(premium, standard, emerging),
        **{name: _count(value[name]) for name in names},
    )


def _read_target_basis(value: Mapping[str, Any]) -> TargetBasis:
    if value["mode"] == "fixed":
        return FixedTarget()
    return AdaptiveTarget(
        previous=_count(value["previous"]),
        least=_count(value["least"]),
        most=_count(value["most"]),
        epochs=tuple(_read_reported(epoch) for epoch in value["epochs"]),
    )


def _read_reported(value: Mapping[str, Any]) -> ReportedEpoch:
    found = ReportedEpoch(
        epoch_id=EpochId(str(value["epoch_id"])),
        target=_count(value["target"]),
        participants=_count(value["participants"]),
        reached=_count(value["reached"]),
    )
    _ = found.volume
    return found


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_SETTING:
        raise ValueError(f"{value!r} is not a whole number from 0 to {LARGEST_SETTING}")
    return value
