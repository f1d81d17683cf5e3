"""From a signed extrinsic to its place in a block: the node's checks, then the runtime's."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bittensor_core

from sn46.chain.local.errors import DispatchError, PoolRejection
from sn46.chain.local.faults import Fault
from sn46.chain.local.file import ChainFile, Writer
from sn46.chain.local.runtime import Runtime
from sn46.mechanism.canonical import canonical_json
from sn46.mechanism.signing import signed_bytes

_core: Any = bittensor_core  # a compiled module without type information

CUSTOM_ERRORS = {"InvalidRevealRound"}
"""Refusals that the real chain makes before inclusion."""


@dataclass(frozen=True)
class Inclusion:
    """Where an extrinsic went, and what came of it. ``error`` is the runtime's error name."""

    block: int
    position: int
    error: str | None
    events: list[dict[str, Any]]


class LostSubmission(Exception):
    """A fault that was ordered: the connection breaks and the caller learns nothing."""


def unsigned_body(
    *,
    signer: str,
    crypto_type: int,
    nonce: int,
    birth: int,
    period: int | None,
    genesis: str,
    spec_version: int,
    call: Mapping[str, Any],
) -> dict[str, Any]:
    """What a signer signs, as canonical JSON: this chain's form of a signing payload."""
    return {
        "signer": signer,
        "crypto_type": crypto_type,
        "nonce": nonce,
        "era": {"birth": birth, "period": period},
        "genesis": genesis,
        "spec_version": spec_version,
        "call": dict(call),
    }


def seal(body: Mapping[str, Any], signature: bytes) -> tuple[bytes, str]:
    """The bytes of a signed extrinsic, and their blake2b-256 hash in hex."""
    raw = canonical_json({**body, "signature": signature.hex()})
    return raw, hash_of(raw)


def hash_of(raw: bytes) -> str:
    return "0x" + hashlib.blake2b(raw, digest_size=32).hexdigest()


def spec_version(stored: int | None) -> int:
    """The runtime's version, of what the chain's state holds: it starts at 1."""
    return 1 if stored is None else int(stored)


def next_nonce(file: ChainFile, address: str) -> int:
    """An account's next nonce, with the extrinsics that wait for the next block counted."""
    return int(
        file.rows("SELECT COUNT(*) FROM extrinsics WHERE signer = ?", (address,))[0][0],
    )


def include(file: ChainFile, runtime: Runtime, raw: bytes) -> Inclusion:
    """Put a signed extrinsic into the next block, and dispatch it there.

    Raises:
        PoolRejection: where the node does not take it.
        LostSubmission: where a fault was ordered; the extrinsic may have been included.
    """
    body = _decode(raw)
    _check_signature(body, file.blocks.hash_of(0))

    def change(writer: Writer) -> tuple[Inclusion | PoolRejection | None, bool]:
        fault = _take_fault(writer, body["signer"])
        if fault is Fault.LOST:
            return None, True
        try:
            if fault is Fault.POOL_FULL:
                raise PoolRejection("Immediately dropped: the pool is full.", "Dropped")
            inclusion = _apply(writer, runtime, raw, body)
        except PoolRejection as rejection:
            # Returned, not raised: the fault that was used up must stay used up.
            return rejection, False
        return inclusion, fault is Fault.TIMEOUT_AFTER_SUBMISSION

    outcome, lost = file.write(change)
    if isinstance(outcome, PoolRejection):
        raise outcome
    if lost or outcome is None:
        raise LostSubmission
    return outcome


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(raw)
        call, era = body["call"], body["era"]
        period = era["period"]
        whole = [
            body["nonce"], body["spec_version"], era["birth"], 0 if period is None else period
        ]  # fmt: skip
        texts = [body["signer"], body["signature"], call["module"], call["function"]]
        if not all(isinstance(value, int) for value in whole):
            raise TypeError("a number is not whole")
        if not all(isinstance(value, str) for value in texts):
            raise TypeError("a text is none")
        dict(call["params"])
    except (ValueError, KeyError, TypeError) as error:
        raise PoolRejection(f"The extrinsic cannot be decoded: {error!r}.", "BadRequest") from error
    return body


def _check_signature(body: dict[str, Any], genesis: str) -> None:
    try:
        good = body["genesis"] == genesis and _core.verify(
            signed_bytes(body),
            bytes.fromhex(str(body["signature"])),
            str(body["signer"]),
            int(body["crypto_type"]),
        )
    except (ValueError, TypeError, KeyError):
        good = False
    if not good:
        raise PoolRejection("Transaction has a bad signature", "BadProof")


def _take_fault(writer: Writer, hotkey: str) -> Fault | None:
    row = writer.connection.execute(
        "SELECT number, kind FROM faults WHERE hotkey IS NULL OR hotkey = ?"
        " ORDER BY number LIMIT 1",
        (hotkey,),
    ).fetchone()
    if row is None:
        return None
    writer.connection.execute("DELETE FROM faults WHERE number = ?", (row[0],))
    return Fault(row[1])


def _apply(writer: Writer, runtime: Runtime, raw: bytes, body: dict[str, Any]) -> Inclusion:
    _check_pool(writer, raw, body)
    call = body["call"]
    if not runtime.knows(call["module"], call["function"]):
        raise PoolRejection(
            f"The local chain does not know the call {call['module']}.{call['function']}.", "Call"
        )
    error: str | None = None
    events: list[dict[str, Any]] = []
    # A failed dispatch is rolled back and still stands in its block, with its nonce used.
    writer.connection.execute("SAVEPOINT dispatch")
    try:
        events = runtime.dispatch(writer, body["signer"], call["function"], call["params"])
    except DispatchError as failure:
        error = failure.name
    except (KeyError, ValueError, TypeError) as malformed:
        raise PoolRejection(
            f"The parameters of {call['function']} cannot be decoded: {malformed!r}.", "BadRequest"
        ) from malformed
    finally:
        if not events:
            writer.connection.execute("ROLLBACK TO dispatch")
        writer.connection.execute("RELEASE dispatch")
    if error in CUSTOM_ERRORS:
        raise PoolRejection(f"Invalid transaction: {error}", error)
    position = _store(writer, raw, body, error, events)
    return Inclusion(writer.block, position, error, events)


def _check_pool(writer: Writer, raw: bytes, body: dict[str, Any]) -> None:
    if body["spec_version"] != spec_version(writer.value("runtime", "spec_version")):
        # A real node finds that out by the signature: the version is part of what is signed.
        raise PoolRejection("Transaction has a bad signature", "BadProof")
    known = writer.connection.execute(
        "SELECT 1 FROM extrinsics WHERE hash = ?", (hash_of(raw),)
    ).fetchone()
    if known:
        raise PoolRejection("Transaction is already imported", None)
    expected = writer.connection.execute(
        "SELECT COUNT(*) FROM extrinsics WHERE signer = ?", (body["signer"],)
    ).fetchone()[0]
    if body["nonce"] < expected:
        raise PoolRejection("Transaction is outdated", "Stale")
    if body["nonce"] > expected:
        raise PoolRejection("Transaction will be valid in the future", "Future")
    birth, period = body["era"]["birth"], body["era"]["period"]
    if period is not None and not birth <= writer.block <= birth + period:
        raise PoolRejection("Transaction has an ancient birth block", "AncientBirthBlock")


def _store(
    writer: Writer,
    raw: bytes,
    body: dict[str, Any],
    error: str | None,
    events: list[dict[str, Any]],
) -> int:
    # Position 0 is the block's timestamp inherent, as on the real chain.
    position = (
        writer.connection.execute(
            "SELECT COUNT(*) FROM extrinsics WHERE block = ?", (writer.block,)
        ).fetchone()[0]
        + 1
    )
    writer.connection.execute(
        "INSERT INTO extrinsics (block, position, hash, signer, nonce, body, error, events)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            writer.block,
            position,
            hash_of(raw),
            body["signer"],
            body["nonce"],
            raw.decode(),
            error,
            json.dumps(events),
        ),
    )
    return int(position)
