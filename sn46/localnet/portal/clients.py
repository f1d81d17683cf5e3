"""What the portal knows of each client address: its allowance and its record."""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sn46.localnet.portal.faults import Fault, PortalConfigError

_MOST_CLIENTS: Final = 10_000
"""Addresses remembered; of more, the ones silent for longest are forgotten."""


@dataclass(frozen=True)
class Allowance:
    """A token bucket: ``burst`` requests at once, ``rate`` a second in the long run."""

    rate: float = 50.0
    burst: int = 100

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.burst < 1:
            raise PortalConfigError(
                "The request limit needs a rate over 0 and a burst of 1 or more."
            )


@dataclass
class Client:
    """One address: tokens left, and counts of what it asked and got."""

    tokens: float
    filled_at: float
    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter[int])
    faults: Counter[Fault] = field(default_factory=Counter[Fault])


class Clients:
    """All addresses. ``now`` gives seconds that never go back."""

    def __init__(self, allowance: Allowance, now: Callable[[], float]) -> None:
        self._allowance = allowance
        self._now = now
        self._clients: OrderedDict[str, Client] = OrderedDict()

    def arrive(self, address: str) -> Client:
        """Count a request and return its client."""
        client = self._clients.get(address)
        if client is None:
            client = Client(tokens=self._allowance.burst, filled_at=self._now())
            self._clients[address] = client
            if len(self._clients) > _MOST_CLIENTS:
                self._clients.popitem(last=False)
        self._clients.move_to_end(address)
        client.requests += 1
        return client

    def take_token(self, client: Client) -> int:
        """0 where the request is allowed, else whole seconds until one would be."""
        now = self._now()
        client.tokens = min(
            float(self._allowance.burst),
            client.tokens + (now - client.filled_at) * self._allowance.rate,
        )
        client.filled_at = now
        if client.tokens >= 1:
            client.tokens -= 1
            return 0
        return max(1, math.ceil((1 - client.tokens) / self._allowance.rate))

    def to_json(self) -> dict[str, Any]:
        return {
            address: {
                "requests": client.requests,
                "statuses": {str(s): n for s, n in sorted(client.statuses.items())},
                "faults": {f.value: n for f, n in sorted(client.faults.items())},
            }
            for address, client in sorted(self._clients.items())
        }
