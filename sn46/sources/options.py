"""What every source that asks over HTTP can be told."""

from dataclasses import dataclass, field

from sn46.sources.politeness import PaceSettings, RetryPolicy
from sn46.sources.proxies import BreakerSettings, Proxy


@dataclass(frozen=True)
class SourceOptions:
    """How to ask, whatever the source.

    Args:
        proxies: the ways to the source; none asks directly.
        local_address: the address of this machine to ask from; None leaves it to the system.
        pace, retry, breaker: the manners.
        timeout: seconds for one attempt.
        fetch_details: whether a search also asks for each home's own page, to fill what the
            search results lack. One request more for every home.
        seed: of the jitter between attempts.
    """

    proxies: tuple[Proxy, ...] = ()
    local_address: str | None = None
    pace: PaceSettings = field(default_factory=PaceSettings)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    timeout: float = 15.0
    fetch_details: bool = False
    seed: str = "retry"
