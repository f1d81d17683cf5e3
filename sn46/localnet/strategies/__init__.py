"""The miners of the local network, each a named strategy.

All of them are the very miner that runs in production (``sn46.miner``). Honest ones differ by
their settings alone; a cheat replaces a step of the miner's pipeline with its own.

``python -m sn46.localnet.strategies NAME`` runs one, told where to connect by the miner's settings.
"""

from sn46.localnet.strategies.table import STRATEGIES, StrategySpec, pipeline_of

__all__ = ["STRATEGIES", "StrategySpec", "pipeline_of"]
