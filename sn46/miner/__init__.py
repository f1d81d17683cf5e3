"""The miner: scrapes the sold homes of each epoch's ZIPs and submits them before the deadline.

``run_miner(load_settings())`` mines until it is told to stop. To mine in another way, give it a
``Pipeline`` with steps of your own; to see what would be refused before you submit, ``clean``.
"""

from sn46.configuration import SettingsError
from sn46.miner.cleaning import clean
from sn46.miner.pipeline import Pipeline
from sn46.miner.process import run_miner
from sn46.miner.settings import MinerSettings, load_settings

__all__ = ["MinerSettings", "Pipeline", "SettingsError", "clean", "load_settings", "run_miner"]
