"""What the API is given in a benchmark: hotkeys, a chain that knows them, a ZIP table, settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bittensor_core

from sn46.chain.local import create_local_chain
from sn46.chain.wallets import LocalWallet, create_local_wallet
from sn46.localnet.portal import expected_counts
from sn46.zipcodes import load_bundled_table, save_table, with_expected

NETUID = 46
CURRENT = "/api/v1/zipcode-assignments/current"
UPLOAD = "/api/v1/s3-access/miner-upload"
NO_LIMIT = dict.fromkeys(("LIMIT_CURRENT", "LIMIT_CREDENTIALS", "LIMIT_ADDRESS"), "1000000/minute")


@dataclass(frozen=True)
class World:
    """The API's wallet, and its settings without those of the store."""

    wallet: LocalWallet
    settings: dict[str, str]


def hotkeys(count: int) -> list[Any]:
    """Keypairs, the same every time."""
    core: Any = bittensor_core
    return [core.Keypair.create_from_seed(bytes([7]) * 28 + n.to_bytes(4, "big"))
            for n in range(count)]  # fmt: skip


def make_world(folder: Path, miners: Sequence[Any]) -> World:
    """All in one folder; the chain knows the miners."""
    wallet = create_local_wallet(folder / "wallets", "owner", "api", b"a benchmark's owner")
    chain = create_local_chain(
        folder / "chain.sqlite",
        netuid=NETUID,
        block_seconds=1,
        owner_hotkey=wallet.hotkey.ss58_address,
        owner_coldkey=wallet.coldkey.ss58_address,
        neurons=[(m.ss58_address, m.ss58_address, 0, False) for m in miners],
        genesis=datetime.now(UTC) - timedelta(minutes=5),
    )
    chain.close()
    table = with_expected(load_bundled_table(), expected_counts(), datetime.now(UTC).date())
    save_table(table, folder / "zipcodes.parquet")
    settings = {
        "SECRET_KEY": "a benchmark's secret, of no worth to anyone",
        "DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'api.db'}",
        "CHAIN_ENDPOINT": f"local:{folder / 'chain.sqlite'}",
        "NETUID": str(NETUID),
        "WALLET_NAME": "owner",
        "WALLET_HOTKEY": "api",
        "WALLET_PATH": str(folder / "wallets"),
        "ZIPCODE_TABLE": str(folder / "zipcodes.parquet"),
        "MAX_STATE_SHARE": "100",
        "MAX_REGION_SHARE": "100",
        "EPOCH_SECONDS": "86400",
        "LOG_LEVEL": "warning",
    }
    return World(wallet, settings)
