"""The SDK's own seam to a chain, over the local chain's file.

``bittensor.Client(substrate=LocalSubstrate(path))`` runs the SDK's reads, intents and executor
unchanged. What differs from a node is behind this seam: extrinsics are signed over canonical JSON
instead of SCALE, and there are no balances, so every fee is zero. Whatever this chain does not
have raises an error that names it; nothing is answered with a guess.
"""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

from bittensor.balance import Balance
from bittensor.error_descriptions import DESCRIPTIONS
from bittensor.result import ChainError as SdkChainError
from bittensor.result import ConnectionNotReady, ExtrinsicResult, RpcConnectionError

from sn46.chain.local import commits, pool
from sn46.chain.local.blocks import from_ms
from sn46.chain.local.errors import LocalChainError, PoolRejection
from sn46.chain.local.file import ChainFile
from sn46.chain.local.runtime import Runtime, set_revealed_row
from sn46.chain.local.views import UnknownItem, View
from sn46.clock import Clock, SystemClock
from sn46.mechanism.canonical import canonical_json
from sn46.mechanism.signing import signed_bytes

_DEFAULT_PERIOD = 64


@dataclass(frozen=True)
class LocalCall:
    """A composed call. ``data`` is its canonical JSON."""

    module: str
    function: str
    params: dict[str, Any]

    @property
    def data(self) -> bytes:
        return canonical_json(self.body)

    @property
    def body(self) -> dict[str, Any]:
        return {"module": self.module, "function": self.function, "params": self.params}


class LocalSubstrate:
    """``bittensor.Substrate`` over a local chain's file; one for each process or task.

    Reads raise the SDK's errors, as its RPC backend does: ``RpcConnectionError`` where the file
    is missing or an outage was ordered, ``ChainError`` for what this chain does not have. As a
    client that keeps a runtime's metadata, it signs for the runtime that it found when it
    connected, until it connects anew.
    """

    def __init__(self, path: str | Path, *, clock: Clock | None = None) -> None:
        self._path = Path(path)
        self._clock = clock or SystemClock()
        self._opened: ChainFile | None = None
        self._spec_version = 0
        self._revealed_at: tuple[int, int] | None = None
        self.token_symbols: dict[int, str] = {}

    def balance(self, rao: int, netuid: int = 0) -> Balance:
        return Balance(int(rao), netuid, self.token_symbols.get(netuid) if netuid else None)

    async def connect(self) -> None:
        if self._opened is not None:
            return
        try:
            file = ChainFile(self._path, self._clock)
        except LocalChainError as error:
            raise RpcConnectionError(str(error)) from error
        stored = file.value("runtime", "spec_version", file.head())
        self._spec_version = pool.spec_version(stored)
        self._opened = file

    async def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _file(self) -> ChainFile:
        if self._opened is None:
            raise ConnectionNotReady("Connect the local chain first: `await client.connect()`.")
        if self._opened.outage_marker.exists():
            raise RpcConnectionError(f"The node of the local chain {self._path} does not answer.")
        return self._opened

    # Reads

    async def block_hash(self, block: int | None = None) -> str:
        file = self._file
        head = file.head()
        number = head if block is None else block
        if not 0 <= number <= head:
            raise SdkChainError(f"Block {number} does not exist: the head is block {head}.")
        return file.blocks.hash_of(number)

    async def block_number(self) -> int:
        await self._reveal()
        return self._file.head()

    async def finalized_block_number(self) -> int:
        await self._reveal()
        return self._file.finalized()

    async def block_time(self) -> float:
        return int(await self.constant("Aura", "SlotDuration")) / 1000

    async def spec_version(self) -> int:
        return self._spec_version

    async def get_block(
        self, block_number: int | None = None, block_hash: str | None = None
    ) -> dict[str, Any] | None:
        file = self._file
        number = self._number(block_hash) if block_number is None else block_number
        if number > file.head():
            return None
        stamp = {"call_module": "Timestamp", "call_function": "set"}
        stamp_args = [{"name": "now", "value": file.blocks.timestamp_ms(number)}]
        rows = file.rows(
            "SELECT body, hash FROM extrinsics WHERE block = ? ORDER BY position", (number,)
        )
        extrinsics = [{"call": {**stamp, "call_args": stamp_args}}]
        extrinsics += [_decoded(json.loads(body), ext_hash) for body, ext_hash in rows]
        header = {
            "number": number,
            "hash": file.blocks.hash_of(number),
            "parentHash": file.blocks.hash_of(max(0, number - 1)),
        }
        return {"header": header, "extrinsics": extrinsics}

    async def query(
        self,
        module: str,
        storage_function: str,
        params: list[Any] | None = None,
        block_hash: str | None = None,
    ) -> Any:
        try:
            return self._view(block_hash).storage(module, storage_function, params or [])
        except UnknownItem as error:
            _missing(error)

    async def map_has_entries(
        self, module: str, storage_function: str, params: list[Any], block_hash: str | None = None
    ) -> bool:
        return bool(await self.query_map(module, storage_function, params, block_hash))

    async def query_map(
        self,
        module: str,
        storage_function: str,
        params: list[Any] | None = None,
        block_hash: str | None = None,
    ) -> list[tuple[Any, Any]]:
        try:
            return self._view(block_hash).storage_map(module, storage_function, params or [])
        except UnknownItem as error:
            _missing(error)

    async def query_batch(
        self,
        module: str,
        storage_function: str,
        param_sets: list[list[Any]],
        block_hash: str | None = None,
    ) -> list[Any]:
        pinned = block_hash or await self.block_hash()
        return [await self.query(module, storage_function, p, pinned) for p in param_sets]

    async def runtime_call(
        self, api: str, method: str, params: list[Any], block_hash: str | None = None
    ) -> Any:
        try:
            return self._view(block_hash).runtime_call(api, method, params)
        except UnknownItem as error:
            _missing(error)

    async def constant(self, module: str, name: str) -> Any:
        try:
            return self._view(None).constant(module, name)
        except UnknownItem as error:
            _missing(error)

    async def decode_scale(self, type_string: str, data: Any) -> Any:
        _missing(UnknownItem(f"SCALE type {type_string}"))

    async def blocks(self, *, finalized: bool = False) -> AsyncIterator[dict[str, Any]]:
        """Headers of new blocks, as they are produced or finalized. None is left out."""
        file = self._file
        seen = file.finalized() if finalized else file.head()
        while True:
            newest = self._file.finalized() if finalized else self._file.head()
            for number in range(seen + 1, newest + 1):
                block = await self.get_block(block_number=number)
                yield {"header": cast("dict[str, Any]", block)["header"]}
            seen = max(seen, newest)
            await self._wait_for_next(file)

    async def events(self, block_hash: str | None = None) -> list[dict[str, Any]]:
        number = self._number(block_hash)
        rows = self._file.rows(
            "SELECT position, error, events FROM extrinsics WHERE block = ? ORDER BY position",
            (number,),
        )
        return [
            {**event, "extrinsic_idx": position}
            for position, error, events in rows
            for event in [*json.loads(events), _outcome_event(error)]
        ]

    # Calls and fees

    async def compose(self, call: Any) -> LocalCall:
        module, function, params = call
        return LocalCall(module, function, {name: _plain(value) for name, value in params.items()})

    async def estimate_fee(self, call: Any, keypair: Any) -> Balance:
        return Balance.from_rao(0)

    async def estimate_weight(self, call: Any, keypair: Any) -> dict[str, int]:
        _missing(UnknownItem("the weight of calls"))

    async def account_next_index(self, address: str) -> int:
        return pool.next_nonce(self._file, address)

    # Writes

    async def mev_next_key(self) -> bytes | None:
        """None: this chain has no MEV shield."""
        return None

    async def sign_extrinsic(
        self, call: LocalCall, keypair: Any, *, nonce: int, period: int | None
    ) -> tuple[bytes, str]:
        file = self._file
        body = pool.unsigned_body(
            signer=keypair.ss58_address,
            crypto_type=int(keypair.crypto_type),
            nonce=nonce,
            birth=file.head(),
            period=period,
            genesis=file.blocks.hash_of(0),
            spec_version=self._spec_version,
            call=call.body,
        )
        signature = keypair.sign(signed_bytes(body))
        if inspect.isawaitable(signature):
            signature = await signature
        return pool.seal(body, bytes(signature))

    async def find_extrinsic(self, extrinsic_hash: str, block_hash: str) -> ExtrinsicResult | None:
        number = self._number(block_hash)
        rows = self._file.rows(
            "SELECT position, error, events FROM extrinsics WHERE block = ? AND hash = ?",
            (number, extrinsic_hash),
        )
        if not rows:
            return None
        position, error, events = rows[0]
        return self._result(pool.Inclusion(number, position, error, json.loads(events)))

    async def prepare(self, call: Any, **options: Any) -> Any:
        _missing(UnknownItem("signing outside of the process"))

    async def submit_signature(
        self, unsigned: Any, signature: bytes | str, **options: Any
    ) -> ExtrinsicResult:
        _missing(UnknownItem("signing outside of the process"))

    async def submit(
        self,
        call: LocalCall,
        keypair: Any,
        *,
        nonce: int | None = None,
        period: int | None = _DEFAULT_PERIOD,
        wait_for_inclusion: bool = True,
        wait_for_finalization: bool = True,
    ) -> ExtrinsicResult:
        """Sign, include and wait for a call. A refusal is a failed result, as on the real chain."""
        if nonce is None:
            nonce = await self.account_next_index(keypair.ss58_address)
        raw, _ = await self.sign_extrinsic(call, keypair, nonce=nonce, period=period)
        return await self.submit_signed(
            raw,
            keypair,
            wait_for_inclusion=wait_for_inclusion,
            wait_for_finalization=wait_for_finalization,
        )

    async def submit_signed(
        self,
        extrinsic: bytes,
        keypair: Any,
        *,
        wait_for_inclusion: bool = True,
        wait_for_finalization: bool = True,
    ) -> ExtrinsicResult:
        """Include the bytes that ``sign_extrinsic`` made, and wait as asked."""
        file = self._file
        runtime = Runtime(file.netuid, file.tempo)
        try:
            # In a thread, since the file's lock may be held by another process.
            inclusion = await asyncio.to_thread(pool.include, file, runtime, extrinsic)
        except PoolRejection as rejection:
            error = SdkChainError(str(rejection), rejection.name)
            return ExtrinsicResult(success=False, message=error.message, error=error)
        except pool.LostSubmission:
            # As the SDK's RPC backend reports it: by text alone.
            error = SdkChainError(
                "Connection dropped while an extrinsic submission was in flight; it may be in "
                "the pool or on chain already."
            )
            return ExtrinsicResult(success=False, message=error.message, error=error)
        if not (wait_for_inclusion or wait_for_finalization):
            return ExtrinsicResult(success=True, message="Submitted (not waiting).")
        while (
            self._file.finalized() if wait_for_finalization else self._file.head()
        ) < inclusion.block:
            await self._wait_for_next(file)
        return self._result(inclusion)

    def multisig_account(self, signatories: list[str], threshold: int) -> Any:
        _missing(UnknownItem("multisig accounts"))

    async def submit_multisig(
        self, call: Any, keypair: Any, multisig_account: Any, **options: Any
    ) -> ExtrinsicResult:
        _missing(UnknownItem("multisig accounts"))

    # Inside

    def _number(self, block_hash: str | None) -> int:
        file = self._file
        if block_hash is None:
            return file.head()
        number = file.blocks.number_of(block_hash)
        if number is None or number > file.head():
            raise SdkChainError(f"There is no block {block_hash} on this chain.")
        return number

    def _view(self, block_hash: str | None) -> View:
        return View(self._file, self._number(block_hash))

    async def _wait_for_next(self, file: ChainFile) -> None:
        due = from_ms(file.blocks.timestamp_ms(file.head() + 1))
        await self._clock.sleep(max(due - self._clock.now(), timedelta(milliseconds=1)))

    async def _reveal(self) -> None:
        """Open the commits that can be opened by now, if anything changed since the last look."""
        file = self._file
        head = file.head()
        seen = (commits.epoch_of(head, file.tempo), len(file.items("pulse", head)))
        if seen[1] and seen != self._revealed_at:
            self._revealed_at = seen
            await asyncio.to_thread(commits.reveal, file, set_revealed_row)

    def _result(self, inclusion: pool.Inclusion) -> ExtrinsicResult:
        block_hash = self._file.blocks.hash_of(inclusion.block)
        extrinsic_id = f"{inclusion.block}-{inclusion.position:04d}"
        if inclusion.error is None:
            return ExtrinsicResult(
                success=True,
                message="Success",
                block_hash=block_hash,
                extrinsic_id=extrinsic_id,
                fee=Balance.from_rao(0),
                events=[*inclusion.events, _outcome_event(None)],
            )
        text = DESCRIPTIONS.get(inclusion.error, inclusion.error)
        return ExtrinsicResult(
            success=False,
            message=text,
            block_hash=block_hash,
            extrinsic_id=extrinsic_id,
            error=SdkChainError(text, inclusion.error),
        )


def _missing(error: UnknownItem) -> NoReturn:
    raise SdkChainError(f"The local chain does not have {error}.") from error


def _plain(value: Any) -> Any:
    """A call's parameter as JSON: bytes become hex."""
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    return value


def _decoded(body: dict[str, Any], extrinsic_hash: str) -> dict[str, Any]:
    call = body["call"]
    return {
        "address": body["signer"],
        "nonce": body["nonce"],
        "extrinsic_hash": extrinsic_hash,
        "call": {
            "call_module": call["module"],
            "call_function": call["function"],
            "call_args": [{"name": n, "value": v} for n, v in call["params"].items()],
        },
    }


def _outcome_event(error: str | None) -> dict[str, Any]:
    name = "ExtrinsicSuccess" if error is None else "ExtrinsicFailed"
    attributes: Any = {} if error is None else {"dispatch_error": error}
    return {"event": {"module_id": "System", "event_id": name, "attributes": attributes}}
