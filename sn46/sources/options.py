"""What every source that asks over HTTP can be told."""

from dataclasses import dataclass, field

from sn46.sources.politeness import PaceSettings, RetryPolicy
from sn46.sources.proxies import Proxy, ProxyList
from sn46.sources.routes import BreakerSettings, Limits, Rotation


@dataclass(frozen=True)
class SourceOptions:
    """How to ask, whatever the source.

    Args:
        proxies: the ways to the source; none asks directly. A list of them may change meanwhile.
        local_address: the address of this machine to ask from; None leaves it to the system.
        pace, retry, breaker, limits: the manners.
        rotation: which proxy a request takes.
        timeout: seconds for one attempt.
        fetch_details: whether a search also asks for each home's own page, to fill what the
            search results lack. One request more for every home.
        seed: of the jitter between attempts.
    """

    proxies: tuple[Proxy, ...] | ProxyList = ()
    local_address: str | None = None
    pace: PaceSettings = field(default_factory=PaceSettings)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    limits: Limits = field(default_factory=Limits)
    rotation: Rotation = Rotation.ROTATING
    timeout: float = 15.0
    fetch_details: bool = False
    seed: str = "retry"
