"""``python -m sn46.localnet.strategies NAME`` runs a miner of the local network; without a name
it lists them. It is told where to connect by the miner's settings (``sn46.miner.settings``)."""

import sys

from sn46.localnet.strategies.table import STRATEGIES, pipeline_of
from sn46.miner.process import main as mine


def main(arguments: list[str]) -> int:
    """Returns the exit code: the miner's, or 2 where the name is none."""
    if not arguments:
        for spec in STRATEGIES.values():
            print(f"{spec.name:14} {spec.description}")
        return 0
    if len(arguments) > 1 or arguments[0] not in STRATEGIES:
        print(
            f"sn46 strategies: {' '.join(arguments)!r} is no strategy; give one of "
            f"{', '.join(STRATEGIES)}.",
            file=sys.stderr,
        )
        return 2
    return mine(pipeline_of(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
