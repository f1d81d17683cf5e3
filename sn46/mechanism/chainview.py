"""The chain as the rules see it: one subnet's neurons at one block (mechanism 13, chain.json)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from sn46.mechanism.errors import ExportError
from sn46.mechanism.names import Coldkey, Hotkey, Uid
from sn46.mechanism.times import format_time, parse_time

RAO_PER_ALPHA: Final = 1_000_000_000


@dataclass(frozen=True)
class Block:
    """A finalized block. ``hash`` is hex with ``0x`` as the chain writes it."""

    number: int
    hash: str
    timestamp: datetime


@dataclass(frozen=True)
class Neuron:
    """One registered hotkey. ``stake`` is in rao of the subnet's alpha (10^9 rao = 1 alpha)."""

    uid: Uid
    hotkey: Hotkey
    coldkey: Coldkey
    stake: int
    validator_permit: bool


@dataclass(frozen=True)
class ChainView:
    """A subnet's neurons at one block, with an index by hotkey."""

    netuid: int
    owner_hotkey: Hotkey
    block: Block
    neurons: tuple[Neuron, ...]
    by_hotkey: Mapping[Hotkey, Neuron] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_hotkey", {n.hotkey: n for n in self.neurons})

    def is_registered(self, hotkey: str) -> bool:
        return hotkey in self.by_hotkey

    def coldkey_of(self, hotkey: Hotkey) -> Coldkey:
        """The owner of a registered hotkey; of any other, the hotkey stands for itself."""
        neuron = self.by_hotkey.get(hotkey)
        return neuron.coldkey if neuron else cast(Coldkey, hotkey)

    def permit_holders(self) -> tuple[Hotkey, ...]:
        """Hotkeys with a validator permit, sorted."""
        return tuple(sorted(n.hotkey for n in self.neurons if n.validator_permit))

    def to_json(self) -> dict[str, Any]:
        return {
            "netuid": self.netuid,
            "owner_hotkey": self.owner_hotkey,
            "block": {
                "number": self.block.number,
                "hash": self.block.hash,
                "timestamp": format_time(self.block.timestamp),
            },
            "neurons": [
                {
                    "uid": n.uid,
                    "hotkey": n.hotkey,
                    "coldkey": n.coldkey,
                    "stake": n.stake,
                    "validator_permit": n.validator_permit,
                }
                for n in self.neurons
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ChainView":
        """Read chain.json of an export.

        Raises:
            ExportError: where a field is missing or of another type.
        """
        try:
            block = value["block"]
            return cls(
                netuid=int(value["netuid"]),
                owner_hotkey=Hotkey(str(value["owner_hotkey"])),
                block=Block(
                    int(block["number"]), str(block["hash"]), parse_time(block["timestamp"])
                ),
                neurons=tuple(
                    Neuron(
                        uid=Uid(int(n["uid"])),
                        hotkey=Hotkey(str(n["hotkey"])),
                        coldkey=Coldkey(str(n["coldkey"])),
                        stake=int(n["stake"]),
                        validator_permit=_as_bool(n["validator_permit"]),
                    )
                    for n in value["neurons"]
                ),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ExportError(f"chain.json cannot be read: {error!r}.") from error


def _as_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value
