"""The portal's bad days: refusals, captchas and slowness, the same again for the same seed."""

import hashlib
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

_SLOWEST: Final = 1.0
_LEAST_SLOW: Final = 0.3


class PortalConfigError(Exception):
    """A setting of the portal that cannot be used."""


class Fault(StrEnum):
    """What may befall a request that is otherwise in order."""

    TOO_MANY = "too_many"
    FORBIDDEN = "forbidden"
    CAPTCHA = "captcha"
    SLOW = "slow"


@dataclass(frozen=True)
class FaultRates:
    """Probabilities from 0 to 1 of each fault; together at most 1."""

    too_many: float = 0.01
    forbidden: float = 0.005
    captcha: float = 0.0
    slow: float = 0.01

    def __post_init__(self) -> None:
        rates = (self.too_many, self.forbidden, self.captcha, self.slow)
        if min(rates) < 0 or sum(rates) > 1:
            raise PortalConfigError(
                "Fault probabilities must be at least 0 each and at most 1 together."
            )


class ClientRule(BaseModel):
    """The lasting misfortune of one client: its searches of some ZIPs are always refused.

    ``fail_fraction`` picks that share of all ZIPs by hash, so that it stays the same ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fail_zipcodes: frozenset[Annotated[str, StringConstraints(pattern=r"^[0-9]{5}$")]] = frozenset()
    fail_fraction: float = Field(default=0.0, ge=0, le=1)


def _address(value: str) -> str:
    return str(ipaddress.ip_address(value))


_RULES = TypeAdapter(dict[Annotated[str, AfterValidator(_address)], ClientRule])


def read_client_rules(path: Path) -> dict[str, ClientRule]:
    """Rules by client address: ``{"127.0.0.14": {"fail_fraction": 0.4}}``.

    Raises:
        PortalConfigError: where the file is missing or is not of that form.
    """
    try:
        return _RULES.validate_python(json.loads(path.read_bytes()))
    except OSError as error:
        raise PortalConfigError(f"Client rules {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise PortalConfigError(f"Client rules {path}: {where}: {first['msg']}.") from error
    except ValueError as error:
        raise PortalConfigError(f"Client rules {path} are not JSON: {error}.") from error


@dataclass(frozen=True)
class FaultPlan:
    """Which requests go wrong. It depends on the seed, the client and the number of the client's
    request alone, never on what other clients do, so that a run can be repeated."""

    seed: str = "portal"
    rates: FaultRates = field(default_factory=FaultRates)
    rules: Mapping[str, ClientRule] = field(default_factory=dict[str, ClientRule])

    def fault(self, client: str, request: int) -> Fault | None:
        """What befalls the client's request of this number, if anything."""
        chance = self._chance("fault", client, str(request))
        for fault, rate in (
            (Fault.TOO_MANY, self.rates.too_many),
            (Fault.FORBIDDEN, self.rates.forbidden),
            (Fault.CAPTCHA, self.rates.captcha),
            (Fault.SLOW, self.rates.slow),
        ):
            if chance < rate:
                return fault
            chance -= rate
        return None

    def delay(self, client: str, request: int) -> float:
        """How long a slow answer takes, in seconds: 0.3 to 1."""
        share = self._chance("delay", client, str(request))
        return _LEAST_SLOW + share * (_SLOWEST - _LEAST_SLOW)

    def refuses_search(self, client: str, zipcode: str) -> bool:
        """Whether a rule keeps this client from this ZIP for good."""
        rule = self.rules.get(client)
        if rule is None:
            return False
        return (
            zipcode in rule.fail_zipcodes
            or self._chance("zip", client, zipcode) < rule.fail_fraction
        )

    def _chance(self, *words: str) -> float:
        """A number in [0, 1) that follows from the seed and the words."""
        text = "\0".join((self.seed, *words)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest()) / (1 << 48)
