"""``python -m sn46.miner`` runs a miner with the settings of the environment."""

import sys

from sn46.miner.process import main

sys.exit(main())
