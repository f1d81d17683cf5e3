"""What the SDK reads of this chain: storage items, constants and the metagraph, as of a block."""

from collections.abc import Callable
from typing import Any

from sn46.chain.local.commits import COMMIT_REVEAL_VERSION, epoch_of
from sn46.chain.local.file import ChainFile

HYPERPARAMETERS: dict[str, int | bool] = {
    "WeightsSetRateLimit": 100,
    "CommitRevealWeightsEnabled": False,
    "RevealPeriodEpochs": 1,
    "MinAllowedWeights": 0,
    "MaxWeightsLimit": 65_535,
    "WeightsVersionKey": 0,
    "MaxAllowedUids": 256,
    "ServingRateLimit": 0,
    "StakeThreshold": 0,
    "NetworkRegistrationAllowed": True,
}
"""Those that this chain acts on, named as their storage items, with what a new chain starts at."""

_GLOBAL = {"StakeThreshold"}
_PALLET = "SubtensorModule"


class UnknownItem(Exception):
    """Something of the real chain that this one does not have."""


class View:
    """Reads of one chain file at one block."""

    def __init__(self, file: ChainFile, block: int) -> None:
        self._file = file
        self._block = block
        self._storage: dict[str, Callable[..., Any]] = {
            "Uids": self._uid,
            "Keys": self._key,
            "Owner": self._owner,
            "IsNetworkMember": lambda hotkey, netuid: self._uid(netuid, hotkey) is not None,
            "SubnetworkN": self._n,
            "LastUpdate": self._last_update,
            "ValidatorPermit": self._permits,
            "BlockAtRegistration": self._registered_at,
            "Weights": self._weights,
            "Axons": self._axon,
            "TotalHotkeyAlpha": lambda hotkey, netuid: self._stake(netuid, hotkey),
            "SubnetOwner": self._subnet("owner_coldkey"),
            "SubnetOwnerHotkey": self._subnet("owner_hotkey"),
            "NetworksAdded": lambda netuid: netuid == self._file.netuid,
            "NetworkRegisteredAt": self._constant(0),
            "Tempo": self._constant(file.tempo),
            "LastEpochBlock": self._constant(self._epoch * file.tempo),
            "SubnetEpochIndex": self._constant(self._epoch),
            "PendingEpochAt": self._constant(0),
            "BlocksSinceLastStep": self._constant(block - self._epoch * file.tempo),
            "SubnetEpochConsensus": self._constant("Yuma"),
            "CommitRevealWeightsVersion": lambda: COMMIT_REVEAL_VERSION,
            "TimelockedWeightCommits": self._commits,
        }
        self._maps: dict[str, Callable[[int], list[tuple[Any, Any]]]] = {
            "Uids": lambda netuid: [(k, int(u)) for k, u in self._items("hotkey_uid").items()],
            "Keys": lambda netuid: list(enumerate(self._hotkeys())),
            "Axons": lambda netuid: list(self._items("axon").items()),
            "Weights": self._all_weights,
            "BlockAtRegistration": lambda netuid: list(enumerate(self._column("registered_at"))),
            "TimelockedWeightCommits": self._all_commits,
        }

    @property
    def _epoch(self) -> int:
        return epoch_of(self._block, self._file.tempo)

    def storage(self, module: str, name: str, params: list[Any]) -> Any:
        """One storage item.

        Raises:
            UnknownItem: where this chain has no such item, or no such subnet.
        """
        if (module, name) == ("Timestamp", "Now"):
            # As on a real chain, whose block 0 has no timestamp inherent.
            return self._file.blocks.timestamp_ms(self._block) if self._block else 0
        if (module, name) == ("Drand", "LastStoredRound"):
            return max((int(number) for number in self._items("pulse")), default=0)
        if (module, name) == ("Drand", "Pulses"):
            return self._items("pulse").get(str(params[0]))
        if module == _PALLET and name in HYPERPARAMETERS:
            if name not in _GLOBAL:
                self._check(params[0])
            return self._file.value("hyper", name, self._block)
        if module != _PALLET or name not in self._storage:
            raise UnknownItem(f"storage item {module}.{name}")
        return self._storage[name](*params)

    def storage_map(self, module: str, name: str, params: list[Any]) -> list[tuple[Any, Any]]:
        """All entries of a map under the subnet's netuid.

        Raises:
            UnknownItem: where this chain has no such map, or no such subnet.
        """
        if module == "Commitments" and name in ("CommitmentOf", "RevealedCommitments"):
            self._check(params[0])
            return []  # The metagraph reads them; no call of this chain makes any.
        if module != _PALLET or name not in self._maps or len(params) != 1:
            raise UnknownItem(f"storage map {module}.{name} with {len(params)} keys")
        self._check(params[0])
        return self._maps[name](int(params[0]))

    def constant(self, module: str, name: str) -> Any:
        if (module, name) == ("Aura", "SlotDuration"):
            return self._file.blocks.block_ms
        raise UnknownItem(f"constant {module}.{name}")

    def runtime_call(self, api: str, method: str, params: list[Any]) -> Any:
        """A runtime API call.

        Raises:
            UnknownItem: where this chain does not serve it.
        """
        if api == "SubnetInfoRuntimeApi" and method in ("get_metagraph", "get_mechagraph"):
            asked = [int(value) for value in params]
            return (
                self._metagraph() if asked[0] == self._file.netuid and not any(asked[1:]) else None
            )
        raise UnknownItem(f"runtime API {api}.{method}")

    def _metagraph(self) -> dict[str, Any]:
        hotkeys = self._hotkeys()
        owners = self._items("owner")
        axons = self._items("axon")
        stakes = self._items("stake")
        stake = [int(stakes.get(hotkey, 0)) for hotkey in hotkeys]
        zeros = [0] * len(hotkeys)
        since = self._block - self._epoch * self._file.tempo
        return {
            "netuid": self._file.netuid,
            "name": list(b"local"),
            "symbol": list(b"L"),
            "identity": None,
            "network_registered_at": 0,
            "owner_hotkey": self._items("subnet")["owner_hotkey"],
            "owner_coldkey": self._items("subnet")["owner_coldkey"],
            "block": self._block,
            "tempo": self._file.tempo,
            "last_step": self._epoch * self._file.tempo,
            "blocks_since_last_step": since,
            "num_uids": len(hotkeys),
            "max_uids": int(self._file.value("hyper", "MaxAllowedUids", self._block)),
            "tao_in": 0,
            "alpha_in": 0,
            "moving_price": {"bits": 0},
            "hotkeys": hotkeys,
            "coldkeys": [owners[hotkey] for hotkey in hotkeys],
            "identities": [None] * len(hotkeys),
            "axons": [axons.get(hotkey, _NO_AXON) for hotkey in hotkeys],
            "active": [True] * len(hotkeys),
            "validator_permit": [bool(value) for value in self._column("permit")],
            "last_update": self._column("last_update"),
            "block_at_registration": self._column("registered_at"),
            "rank": zeros,
            "trust": zeros,
            "consensus": zeros,
            "incentives": zeros,
            "dividends": zeros,
            "pruning_score": zeros,
            "emission": zeros,
            "alpha_stake": stake,
            "tao_stake": zeros,
            "total_stake": stake,
        }

    def _check(self, netuid: Any) -> None:
        if int(netuid) != self._file.netuid:
            raise UnknownItem(f"subnet {netuid}; it is subnet {self._file.netuid} alone")

    def _items(self, item: str) -> dict[str, Any]:
        return self._file.items(item, self._block)

    def _column(self, item: str) -> list[Any]:
        values = self._items(item)
        return [values[str(uid)] for uid in range(len(values))]

    def _hotkeys(self) -> list[str]:
        return self._column("uid_hotkey")

    def _constant(self, value: Any) -> Callable[[Any], Any]:
        def read(netuid: Any) -> Any:
            self._check(netuid)
            return value

        return read

    def _subnet(self, name: str) -> Callable[[Any], Any]:
        def read(netuid: Any) -> Any:
            self._check(netuid)
            return self._file.value("subnet", name, self._block)

        return read

    def _uid(self, netuid: Any, hotkey: str) -> int | None:
        self._check(netuid)
        return self._file.value("hotkey_uid", str(hotkey), self._block)

    def _key(self, netuid: Any, uid: Any) -> str | None:
        self._check(netuid)
        return self._file.value("uid_hotkey", str(int(uid)), self._block)

    def _owner(self, hotkey: str) -> str | None:
        return self._file.value("owner", str(hotkey), self._block)

    def _n(self, netuid: Any) -> int:
        self._check(netuid)
        return len(self._items("uid_hotkey"))

    def _last_update(self, netuid: Any) -> list[int]:
        self._check(netuid)
        return self._column("last_update")

    def _permits(self, netuid: Any) -> list[bool]:
        self._check(netuid)
        return self._column("permit")

    def _registered_at(self, netuid: Any, uid: Any) -> int:
        self._check(netuid)
        return int(self._file.value("registered_at", str(int(uid)), self._block) or 0)

    def _stake(self, netuid: Any, hotkey: str) -> int:
        self._check(netuid)
        return int(self._file.value("stake", str(hotkey), self._block) or 0)

    def _weights(self, netuid: Any, uid: Any) -> list[tuple[int, int]]:
        self._check(netuid)
        row = self._file.value("weights", str(int(uid)), self._block) or []
        return [(int(target), int(value)) for target, value in row]

    def _all_weights(self, netuid: int) -> list[tuple[Any, Any]]:
        rows = self._items("weights")
        return [(int(uid), self._weights(netuid, uid)) for uid in sorted(rows, key=int)]

    def _axon(self, netuid: Any, hotkey: str) -> dict[str, int] | None:
        self._check(netuid)
        return self._file.value("axon", str(hotkey), self._block)

    def _commits(self, netuid: Any, epoch: Any) -> list[tuple[str, int, str, int]]:
        return dict(self._all_commits(int(netuid))).get(int(epoch), [])

    def _all_commits(self, netuid: int) -> list[tuple[Any, Any]]:
        self._check(netuid)
        epochs: dict[int, list[tuple[str, int, str, int]]] = {}
        for _, c in sorted(self._items("commit").items(), key=lambda item: int(item[0])):
            row = (c["hotkey"], c["block"], "0x" + c["payload"], c["round"])
            epochs.setdefault(c["epoch"], []).append(row)
        return list(epochs.items())


_NO_AXON = {"block": 0, "version": 0, "ip": 0, "port": 0, "ip_type": 0, "protocol": 0}
