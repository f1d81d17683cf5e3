"""Timelocked weights: commits, drand pulses, and their reveal.

The SDK encrypts weights to a round of the public drand beacon ("quicknet"), whose public key is
built into it. So this chain opens them exactly as the real one does, with the beacon's signature
of that round, and in no other way: it keeps the pulses it is given (the real chain's workers
fetch them, ``LocalChain.fetch_pulses`` does it here), and reveals a commit once its epoch has
come and its pulse is there. On a machine without a way to the beacon, commits stay commits.
"""

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import bittensor_core

from sn46.chain.local.errors import DispatchError, LocalChainError
from sn46.chain.local.file import ChainFile, Writer

_core: Any = bittensor_core  # a compiled module without type information

COMMIT_REVEAL_VERSION = 4
MAX_UNREVEALED = 10
_MAX_COMMIT_BYTES = 5_000
# Round 1 of quicknet, and the time between rounds (drand's chain info).
_ROUND_ONE = datetime.fromtimestamp(1_692_803_367, tz=UTC)
_ROUND_PERIOD = timedelta(seconds=3)

SetRow = Callable[[Writer, str, list[int], list[int], int], None]
"""Sets a validator's weights: writer, hotkey, uids, values, version key."""


def round_time(number: int) -> datetime:
    """When the beacon publishes a round."""
    return _ROUND_ONE + (number - 1) * _ROUND_PERIOD


def drand_signature(number: int) -> str:
    """The beacon's signature of a round, over the network.

    Raises:
        ValueError: where the beacon cannot be reached or has not published it.
    """
    return str(_core.get_signature_for_round(number))


def epoch_of(block: int, tempo: int) -> int:
    return block // tempo


def commit(
    writer: Writer, tempo: int, hotkey: str, payload: bytes, reveal_round: int, version: int
) -> None:
    """Keep a commit until its reveal.

    Raises:
        DispatchError: with the runtime's names.
    """
    if version != COMMIT_REVEAL_VERSION:
        raise DispatchError("IncorrectCommitRevealVersion")
    if len(payload) > _MAX_COMMIT_BYTES:
        raise DispatchError("CommitPayloadTooLarge")
    if reveal_round < max((int(number) for number in writer.items("pulse")), default=0):
        raise DispatchError("InvalidRevealRound")
    period = int(writer.value("hyper", "RevealPeriodEpochs"))
    epoch = epoch_of(writer.block, tempo)
    commits = writer.items("commit")
    waiting = [
        c for c in commits.values() if c["hotkey"] == hotkey and c["epoch"] >= epoch - period
    ]
    if len(waiting) >= MAX_UNREVEALED:
        raise DispatchError("TooManyUnrevealedCommits")
    number = int(writer.value("subnet", "next_commit") or 0)
    writer.put("subnet", "next_commit", number + 1)
    writer.put(
        "commit",
        str(number),
        {
            "hotkey": hotkey,
            "epoch": epoch,
            "block": writer.block,
            "round": reveal_round,
            "payload": payload.hex(),
        },
    )


def check_pulse(number: int, signature: str) -> None:
    """Raises LocalChainError where this is not the beacon's signature of the round."""
    envelope, _ = _core.encrypt_at_round(b"pulse", number)
    try:
        good = bytes(_core.decrypt_with_signature(envelope, signature)) == b"pulse"
    except ValueError:
        good = False
    if not good:
        raise LocalChainError(
            f"That is not the drand quicknet signature of round {number}. Fetch it from the beacon."
        )


def due(file: ChainFile) -> dict[int, dict[str, Any]]:
    """The commits whose epoch has come at the head, by number."""
    head = file.head()
    commits = file.items("commit", head)
    if not commits:
        return {}
    period = int(file.value("hyper", "RevealPeriodEpochs", head))
    epoch = epoch_of(head, file.tempo)
    return {int(n): c for n, c in sorted(commits.items()) if c["epoch"] + period <= epoch}


def reveal(file: ChainFile, set_row: SetRow) -> int:
    """Open every due commit whose pulse is here, oldest first; how many weights that set.

    The real chain tries in the very epoch that a commit is due in, and drops it with that epoch.
    Nobody is on duty here at each epoch's start, so a commit waits for its pulse; one that a
    newer commit of the same hotkey overtook is dropped.
    """
    waiting = due(file)
    if not waiting:
        return 0
    pulses = file.items("pulse", file.head())
    if not any(str(entry["round"]) in pulses for entry in waiting.values()):
        return 0

    def change(writer: Writer) -> int:
        done = 0
        present = writer.items("commit")
        stored = writer.items("pulse")
        for number, entry in waiting.items():
            signature = stored.get(str(entry["round"]))
            if signature is None or str(number) not in present:
                continue
            done += _open(writer, entry, signature, set_row)
            _drop_until(writer, present, entry["hotkey"], number)
        return done

    return file.write(change)


def _open(writer: Writer, entry: dict[str, Any], signature: str, set_row: SetRow) -> int:
    """1 where the commit set weights; 0 where it is dropped, as the runtime drops it."""
    inner = bytes.fromhex(entry["payload"])
    envelope = _compact(len(inner)) + inner + struct.pack("<Q", entry["round"])
    try:
        plain = bytes(_core.decrypt_with_signature(envelope, signature))
        hotkey, uids, values, version_key = decode_payload(plain)
        if hotkey != entry["hotkey"]:
            return 0
        set_row(writer, hotkey, uids, values, version_key)
    except (ValueError, struct.error, DispatchError):
        return 0
    return 1


def _drop_until(writer: Writer, present: dict[str, Any], hotkey: str, number: int) -> None:
    for key in [k for k, c in present.items() if c["hotkey"] == hotkey and int(k) <= number]:
        writer.put("commit", key, None)
        del present[key]


def decode_payload(plain: bytes) -> tuple[str, list[int], list[int], int]:
    """Read the SCALE bytes that the SDK encrypts: the hotkey's 32 bytes, uids and values as
    vectors of u16, and the version key as u64 (subtensor, ``WeightsTlockPayload``).

    Raises:
        ValueError: where the bytes are something else.
    """
    length, at = _read_compact(plain, 0)
    if length != 32:
        raise ValueError("the payload does not begin with a hotkey of 32 bytes")
    hotkey = str(_core.ss58_encode(plain[at : at + 32], 42))
    uids, at = _read_u16s(plain, at + 32)
    values, at = _read_u16s(plain, at)
    if len(plain) != at + 8:
        raise ValueError("the payload does not end with a version key of 8 bytes")
    return hotkey, uids, values, int.from_bytes(plain[at:], "little")


def _read_u16s(plain: bytes, at: int) -> tuple[list[int], int]:
    count, at = _read_compact(plain, at)
    end = at + 2 * count
    if end > len(plain):
        raise ValueError("the payload ends within a list")
    return [int.from_bytes(plain[i : i + 2], "little") for i in range(at, end, 2)], end


def _read_compact(plain: bytes, at: int) -> tuple[int, int]:
    """SCALE's compact integers in their one-, two- and four-byte forms."""
    if at >= len(plain):
        raise ValueError("the payload ends before a length")
    size = {0: 1, 1: 2, 2: 4}.get(plain[at] & 3)
    if size is None or at + size > len(plain):
        raise ValueError("a length in the payload is malformed")
    return int.from_bytes(plain[at : at + size], "little") >> 2, at + size


def _compact(value: int) -> bytes:
    if value < 1 << 6:
        return struct.pack("<B", value << 2)
    if value < 1 << 14:
        return struct.pack("<H", value << 2 | 1)
    return struct.pack("<I", value << 2 | 2)
