"""One door to any chain: the public network, a node of one's own, or the local chain's file."""

import importlib
from collections.abc import Callable
from typing import Any

from sn46.chain.base import Chain
from sn46.chain.errors import ChainError
from sn46.chain.sdk import SdkChain
from sn46.clock import Clock, SystemClock
from sn46.mechanism.signing import Signer

LOCAL_PREFIX = "local:"
_NETWORKS = ("finney", "test", "archive", "local")


def open_chain(
    endpoint: str,
    *,
    netuid: int,
    signer: Signer | None = None,
    clock: Clock | None = None,
    version_key: int = 0,
) -> Chain:
    """A chain that connects with its first call.

    Args:
        endpoint: a network's name (``finney``, ``test``), a node (``ws://…``, ``wss://…``), or
            ``local:/path/to/chain.sqlite``. A node alone has no archive behind it: unless it is
            one itself, it forgets state after some 256 blocks (51 minutes).
        signer: the hotkey that signs, None to read only.
        version_key: the weights version that this software implements.

    Raises:
        ChainError: where the endpoint is of no known form.
    """
    clock = clock or SystemClock()
    make, network = _substrate_of(endpoint, clock)
    return SdkChain(
        netuid=netuid,
        substrate=make,
        network=network,
        signer=signer,
        clock=clock,
        version_key=version_key,
    )


def _substrate_of(endpoint: str, clock: Clock) -> tuple[Callable[[], Any], str]:
    if endpoint.startswith(LOCAL_PREFIX) and len(endpoint) > len(LOCAL_PREFIX):
        path = endpoint.removeprefix(LOCAL_PREFIX)

        def make_local() -> Any:
            module = importlib.import_module("sn46.chain.local.substrate")
            return module.LocalSubstrate(path, clock=clock)

        return make_local, "local"
    if endpoint in _NETWORKS or endpoint.startswith(("ws://", "wss://")):
        return lambda: _rpc(endpoint), endpoint
    raise ChainError(
        f"The chain endpoint {endpoint!r} is of no known form. Give finney, test, a node's "
        "ws:// or wss:// address, or local:/path/to/chain.sqlite."
    )


def _rpc(endpoint: str) -> Any:
    """The SDK's own backend, with the fallback and archive nodes that its client would choose."""
    sdk: Any = importlib.import_module("bittensor")
    settings: Any = importlib.import_module("bittensor.settings")
    network, url = settings.resolve_endpoint(endpoint)
    fallbacks = [other for other in settings.default_fallback_endpoints(network) if other != url]
    return sdk.RpcSubstrate(
        url,
        fallback_endpoints=fallbacks,
        archive_endpoints=settings.default_archive_endpoints(network),
    )
