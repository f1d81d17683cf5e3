"""The rules that every assignment carries, so that no two validators can differ (mechanism 3).

They are set by the subnet's owner on the API server; validators and replays take them from the
assignment, never from their own settings.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Literal, cast

from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import AssignmentError

RULES_VERSION = 3
MAX_LOOKBACK_DAYS = 36_525
"""A century: no sale that a portal shows is older, and no date arithmetic overflows."""
MAX_CREDIBILITY_EXPONENT = 8

Unclaimed = Literal["burn", "redistribute"]


@dataclass(frozen=True)
class Rules:
    """One epoch's rules. Percentages are whole numbers from 0 to 100; ``grace_percent`` is of the
    epoch's length."""

    version: int = RULES_VERSION
    lookback_days: int = 1095
    min_volume_percent: int = 10
    source_result_limit: int = 1000
    deep_validation_top: int = 6
    random_deep_validations: int = 3
    spot_check_percentage: int = 5
    spot_check_replicas: int = 3
    min_accuracy_percent: int = 70
    max_winners_per_coldkey: int = 1
    unclaimed: Unclaimed = "burn"
    credibility_exponent: int = 1
    grace_percent: int = 50

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "unclaimed":
                if value not in ("burn", "redistribute"):
                    raise AssignmentError(
                        f"rules.unclaimed is {value!r}; it must be 'burn' or 'redistribute'."
                    )
            elif type(value) is not int or value < 0:
                raise AssignmentError(f"rules.{field.name} must be a whole number, not {value!r}.")
        for name in ("min_volume_percent", "spot_check_percentage", "min_accuracy_percent",
                     "grace_percent"):  # fmt: skip
            if getattr(self, name) > 100:
                raise AssignmentError(f"rules.{name} is a percentage; it cannot be over 100.")
        for name in ("lookback_days", "source_result_limit", "max_winners_per_coldkey",
                     "spot_check_replicas"):  # fmt: skip
            if getattr(self, name) < 1:
                raise AssignmentError(f"rules.{name} must be at least 1.")
        if self.credibility_exponent > MAX_CREDIBILITY_EXPONENT:
            raise AssignmentError(
                f"rules.credibility_exponent cannot be over {MAX_CREDIBILITY_EXPONENT}."
            )
        if self.lookback_days > MAX_LOOKBACK_DAYS:
            raise AssignmentError(f"rules.lookback_days cannot be over {MAX_LOOKBACK_DAYS}.")

    def grace_end(self, epoch: Epoch) -> datetime:
        """Until when uploads count as simultaneous for speed."""
        return epoch.start + epoch.length * self.grace_percent / 100

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Rules":
        """Read the ``rules`` object of an assignment.

        Raises:
            AssignmentError: where a rule is missing or malformed, or where the version is one
                that this program does not know (it must then be upgraded).
        """
        if not isinstance(value, Mapping):
            raise AssignmentError("The assignment carries no rules.")
        given = cast(Mapping[str, Any], value)
        version = given.get("version")
        if type(version) is int and version < RULES_VERSION:
            raise AssignmentError(
                f"The assignment follows rules of version {version}, and this program judges by "
                f"version {RULES_VERSION}. Use the sn46 of its time for it."
            )
        if version != RULES_VERSION:
            raise AssignmentError(
                f"The assignment follows rules of version {version!r}, and this program knows "
                f"version {RULES_VERSION}. Upgrade sn46 before the next epoch."
            )
        missing = [field.name for field in fields(cls) if field.name not in given]
        if missing:
            raise AssignmentError(f"The assignment's rules lack {', '.join(missing)}.")
        return cls(**{field.name: given[field.name] for field in fields(cls)})
