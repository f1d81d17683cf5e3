"""The chain through the bittensor SDK 11: reads, the SDK's intents, and its executor.

The SDK takes half a second to import, and many processes start at once: it is imported with the
first call, in a thread, and not with this module.
"""

import asyncio
import importlib
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

from sn46.chain.base import (
    SUBMISSION_BLOCKS,
    BlockNotFinal,
    ChainError,
    WeightsReceipt,
    WeightsUpdate,
)
from sn46.chain.errors import (
    ChainUnreachable,
    ExtrinsicRefused,
    NoPermit,
    NotRegistered,
    RateLimited,
    ReadOnlyChain,
    SubmissionUnknown,
    WeightsMismatch,
)
from sn46.chain.search import first_block_at
from sn46.chain.weights import U16_MAX, by_uid, rows_equal, to_ppm
from sn46.clock import Clock, SystemClock
from sn46.mechanism.chainview import Block, ChainView, Neuron
from sn46.mechanism.names import Coldkey, Hotkey, Ppm, Uid
from sn46.mechanism.signing import Signer, address_of

T = TypeVar("T")

_PALLET = "SubtensorModule"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT_BLOCKS = 4096
# Watch statuses after which the extrinsic may still stand in a block.
_UNCERTAIN = {"FinalityTimeout", "Retracted", "Usurped"}
# How a node refuses what was made for another runtime than it runs.
_STALE = {"BadProof", "Call"}
# Blocks from inclusion to finality, generously.
_FINALITY_BLOCKS = 4


class SdkChain:
    """One subnet, read and written through a bittensor ``Client``. Implements ``Chain``.

    One instance serves any number of tasks of one event loop; it connects with the first call,
    and again with the next one where that failed, or where the chain changed its runtime: what
    the SDK knows of calls and types is read anew then. Weights of two tasks must not be set at
    once.
    """

    def __init__(
        self,
        *,
        netuid: int,
        substrate: Callable[[], Any],
        network: str = "finney",
        signer: Signer | None = None,
        clock: Clock | None = None,
        version_key: int = 0,
        wait_for_finalization: bool = True,
        recovery_blocks: int = SUBMISSION_BLOCKS + _FINALITY_BLOCKS,
    ) -> None:
        """
        Args:
            substrate: makes the SDK's ``Substrate``; called at the first use.
            network: the SDK's name for the network, or its ``ws://`` endpoint; a label only.
            signer: the hotkey (a bittensor ``Keypair``), None to read only.
            version_key: the weights version that this software implements; the chain refuses
                one that is older than the subnet's.
            wait_for_finalization: return from writes once final, else once included.
            recovery_blocks: how many blocks to look for an extrinsic whose answer was lost.
        """
        self.netuid = netuid
        self._make_substrate = substrate
        self._network = network
        self._signer = signer
        self._clock = clock or SystemClock()
        self._version_key = version_key
        self._finalization = wait_for_finalization
        self._recovery_blocks = recovery_blocks
        self._connecting = asyncio.Lock()
        self._connected: tuple[Any, Any] | None = None
        self._sdk: Any = None
        self._known: OrderedDict[int, Block] = OrderedDict()
        self._block_time: timedelta | None = None
        self._broken = False

    async def view(self) -> ChainView:
        return await self._view((await self.block()).number)

    async def view_at(self, moment: datetime) -> ChainView:
        newest = await self.block()
        if newest.timestamp < moment:
            raise BlockNotFinal(
                f"The newest finalized block, {newest.number}, is of {newest.timestamp:%F %T} UTC, "
                f"before {moment.astimezone(UTC):%F %T}. Ask again in some seconds."
            )
        block = await first_block_at(
            moment,
            newest=newest,
            block_time=await self._time_of_a_block(),
            read=self._finalized_block,
        )
        return await self._view(block.number)

    async def block(self) -> Block:
        client, _ = await self._connection()
        with self._translated("ask for the finalized head"):
            number = int(await client.finalized_block())
        return await self._finalized_block(number)

    async def set_weights(self, weights: Mapping[Hotkey, Ppm]) -> WeightsReceipt:
        signer = self._own()
        client, _ = await self._connection()
        view = await self._view(await self._head())
        own = view.by_hotkey.get(address_of(signer))
        if own is None:
            _raise_not_registered(address_of(signer), self.netuid)
        row = by_uid(weights, view)
        if not own.validator_permit and own.hotkey != view.owner_hotkey and list(row) != [own.uid]:
            # Refused here, since an extrinsic that fails costs its fee all the same.
            raise NoPermit(
                f"The hotkey {own.hotkey} holds no validator permit on subnet {self.netuid}, so "
                "its weights were not sent. A permit comes with more stake, at the subnet's next "
                "epoch."
            )
        intent = self._sdk.SetWeights(
            netuid=self.netuid,
            weights={uid: float(ppm) for uid, ppm in row.items()},
            version_key=self._version_key,
        )
        try:
            with self._translated("set weights"):
                result = await self._execute(client, intent, signer)
        except RateLimited as error:
            blocks = await self._blocks_left(own.uid)
            wait = blocks * await self._time_of_a_block()
            raise RateLimited(str(error), blocks, wait) from error
        if result is None or result.extrinsic_id is None:
            block = await self._lost_update(own.uid, view.block.number)
        else:
            block = int(result.extrinsic_id.partition("-")[0])
        if await self._read("CommitRevealWeightsEnabled", [self.netuid], block):
            await self._check_holders(list(row), block, view)
            return WeightsReceipt(block=block, on_chain={}, committed_only=True)
        return await self._read_back(block, own.uid, row, view)

    async def last_update(self, hotkey: Hotkey) -> WeightsUpdate | None:
        newest, head = await self.block(), await self._head()
        uid = await self._read("Uids", [self.netuid, hotkey], head)
        if uid is None:
            return None
        updates = await self._read("LastUpdate", [self.netuid], head)
        registered = await self._read("BlockAtRegistration", [self.netuid, int(uid)], head)
        block = int(updates[int(uid)])
        if block <= int(registered or 0):  # Registering counts as an update on the chain.
            return None
        # Not read at that block, whose state a node forgets within the hour.
        at = newest.timestamp + (block - newest.number) * await self._time_of_a_block()
        committed = await self._read("CommitRevealWeightsEnabled", [self.netuid], head)
        return WeightsUpdate(block=block, at=at, committed=bool(committed))

    async def stands(self, weights: Mapping[Hotkey, Ppm]) -> bool:
        head = await self._head()
        view = await self._view(head)
        own = view.by_hotkey.get(address_of(self._own()))
        if own is None:
            return False
        expected = await self._expected(by_uid(weights, view), own.uid, head)
        actual = await self._row(own.uid, head)
        # The chain keeps the weight of a uid that passed on, as a zero.
        return expected == {uid: value for uid, value in actual.items() if value}

    async def weights_of(self, hotkey: Hotkey) -> Mapping[Hotkey, Ppm]:
        head = await self._head()
        uid = await self._read("Uids", [self.netuid, hotkey], head)
        if uid is None:
            return {}
        values = await self._row(int(uid), head)
        return to_ppm(await self._by_hotkey(values, head))

    async def publish_endpoint(self, host: str, port: int) -> None:
        signer = self._own()
        ip = await _address(host)
        hotkey = address_of(signer)
        if (await self.endpoints()).get(hotkey) == (ip, port):
            return  # Saying it again costs a fee and runs into the serving rate limit.
        client, _ = await self._connection()
        intent = self._sdk.ServeAxon(netuid=self.netuid, ip=ip, port=port)
        with self._translated("publish the endpoint"):
            result = await self._execute(client, intent, signer)
        if result is None:

            async def seen() -> bool | None:
                return (await self.endpoints()).get(hotkey) == (ip, port) or None

            await self._look_for(seen, "the endpoint")

    async def endpoints(self) -> Mapping[Hotkey, tuple[str, int]]:
        graph = await self._metagraph(await self._head())
        found: dict[Hotkey, tuple[str, int]] = {}
        for neuron in graph.neurons:
            if neuron.axon is not None:
                host, _, port = str(neuron.axon).rpartition(":")
                found[Hotkey(neuron.hotkey)] = (host.strip("[]"), int(port))
        return found

    async def close(self) -> None:
        async with self._connecting:
            if self._connected is not None:
                _, substrate = self._connected
                self._connected = None
                await substrate.close()

    # The connection

    async def _connection(self) -> tuple[Any, Any]:
        """The client and its substrate, connected.

        ``Client.connect`` is not used: it only adds token symbols to the connection, for display,
        and keeps them in a file in the user's home.
        """
        async with self._connecting:
            if self._connected is not None and self._broken:
                # The SDK's backend, once it has given up, answers nothing any more.
                _, dead = self._connected
                self._connected = None
                with suppress(OSError, self._sdk.BittensorError):
                    await dead.close()
            if self._connected is None:
                self._sdk = await asyncio.to_thread(importlib.import_module, "bittensor")
                substrate = self._make_substrate()
                with self._translated("connect"):
                    await substrate.connect()
                self._broken = False
                self._block_time = None
                self._connected = self._sdk.Client(self._network, substrate=substrate), substrate
            return self._connected

    def _own(self) -> Signer:
        if self._signer is None:
            raise ReadOnlyChain(
                "This chain was opened without a hotkey, so it can only be read. Open it with one."
            )
        return self._signer

    @contextmanager
    def _translated(self, doing: str) -> Generator[None]:
        """The SDK's errors as this package's."""
        sdk = self._sdk
        try:
            yield
        except (sdk.RpcConnectionError, sdk.ConnectionNotReady, OSError, TimeoutError) as error:
            self._broken = True
            raise ChainUnreachable(
                f"Could not {doing}: the chain does not answer ({error}). Nothing was changed; "
                "check the endpoint and the network, or wait and try again."
            ) from error
        except sdk.ChainError as error:
            self._broken = self._broken or error.name in _STALE
            raise self._refusal(doing, error) from error
        except sdk.BittensorError as error:
            raise ChainError(f"Could not {doing}: {error}.") from error
        except (LookupError, TypeError, ValueError) as error:
            # So does the SDK's decoder where the chain's types are others than it knows.
            self._broken = True
            raise ChainError(
                f"Could not {doing}: the chain's answer cannot be read ({error!r}). Its runtime "
                "may be new: what is known of it is read again with the next call. If this stays "
                "so, a newer version of this software is needed."
            ) from error

    def _refusal(self, doing: str, error: Any) -> ChainError:
        code = self._sdk.ErrorCode
        named = f" ({error.name})" if error.name else ""
        text = f"Could not {doing} on subnet {self.netuid}: {error.message}{named}"
        if error.code is code.RATE_LIMITED:
            return RateLimited(f"{text} Wait for the rate limit to pass.", None)
        if error.code is code.NOT_REGISTERED:
            return NotRegistered(f"{text} Register the hotkey first.")
        if error.name == "NeuronNoValidatorPermit" or error.code is code.NOT_AUTHORIZED:
            return NoPermit(
                f"{text} Only a hotkey with a validator permit may; a permit comes with more "
                "stake, at the subnet's next epoch."
            )
        return ExtrinsicRefused(f"{text}: {error.remediation}.", error.name)

    # Reads

    async def _head(self) -> int:
        client, _ = await self._connection()
        with self._translated("ask for the head"):
            return int(await client.block())

    async def _finalized_block(self, number: int) -> Block:
        """A block that never changes any more, so it is kept."""
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = await self._read_block(number)
            if len(self._known) > _KEPT_BLOCKS:
                self._known.popitem(last=False)
        return known

    async def _read_block(self, number: int) -> Block:
        _, substrate = await self._connection()
        with self._translated(f"read block {number}"):
            block_hash = await substrate.block_hash(number)
            stamp = await substrate.query("Timestamp", "Now", block_hash=block_hash)
        return Block(number, str(block_hash), _EPOCH + timedelta(milliseconds=int(stamp or 0)))

    async def _time_of_a_block(self) -> timedelta:
        if self._block_time is None:
            _, substrate = await self._connection()
            with self._translated("ask for the block time"):
                self._block_time = timedelta(seconds=float(await substrate.block_time()))
        return self._block_time

    async def _metagraph(self, block: int) -> Any:
        client, _ = await self._connection()
        with self._translated(f"read the metagraph at block {block}"):
            snapshot = await client.at(block)
            graph = await snapshot.subnets.metagraph(self.netuid, commitments=False)
        if graph is None:
            raise ChainError(
                f"There is no subnet {self.netuid} on this network at block {block}. "
                "Check the netuid and the network."
            )
        if graph.block != block:
            raise ChainError(
                f"The node answered for block {graph.block} where block {block} was asked for. "
                "It is out of step: try again, or use another endpoint."
            )
        return graph

    async def _view(self, number: int) -> ChainView:
        graph = await self._metagraph(number)
        block = self._known.get(number) or await self._read_block(number)
        return ChainView(
            netuid=self.netuid,
            owner_hotkey=Hotkey(graph.owner_hotkey),
            block=block,
            neurons=tuple(
                Neuron(
                    uid=Uid(neuron.uid),
                    hotkey=Hotkey(neuron.hotkey),
                    coldkey=Coldkey(neuron.coldkey),
                    stake=int(neuron.total_stake.rao),
                    validator_permit=bool(neuron.validator_permit),
                )
                for neuron in graph.neurons
            ),
        )

    async def _read(self, item: str, params: list[Any], block: int) -> Any:
        client, _ = await self._connection()
        with self._translated(f"read {item} at block {block}"):
            return await client.query((_PALLET, item), params, block=block)

    async def _row(self, uid: int, block: int) -> dict[int, int]:
        row = await self._read("Weights", [self.netuid, uid], block)
        return {int(target): int(value) for target, value in row or []}

    async def _by_hotkey(self, values: Mapping[int, int], block: int) -> dict[Hotkey, int]:
        """A row by the hotkeys that hold its uids at that block."""
        hotkeys = await self._hotkeys(list(values), block)
        return {
            hotkey: value
            for hotkey, value in zip(hotkeys, values.values(), strict=True)
            if hotkey is not None
        }

    async def _hotkeys(self, uids: list[int], block: int) -> list[Hotkey | None]:
        """Who holds each of these uids at that block."""
        client, _ = await self._connection()
        with self._translated(f"read hotkeys at block {block}"):
            hotkeys = await client.query_batch(
                (_PALLET, "Keys"), [[self.netuid, uid] for uid in uids], block=block
            )
        return [None if hotkey is None else Hotkey(str(hotkey)) for hotkey in hotkeys]

    async def _blocks_left(self, uid: int) -> int:
        head = await self._head()
        limit = await self._read("WeightsSetRateLimit", [self.netuid], head)
        updates = await self._read("LastUpdate", [self.netuid], head)
        return max(0, int(limit or 0) - (head - int(updates[uid])))

    # Writes

    async def _execute(self, client: Any, intent: Any, signer: Signer) -> Any:
        """The SDK's result of a successful extrinsic; None where the answer was lost on the way,
        and the extrinsic may have been included.

        Raises:
            what the SDK raises where the extrinsic was refused.
        """
        sdk = self._sdk
        try:
            result = await client.execute(
                intent,
                signer,
                wait_for_finalization=self._finalization,
                wait_for_inclusion=True,
                period=SUBMISSION_BLOCKS,
            )
        except (sdk.RpcConnectionError, OSError, TimeoutError):
            self._broken = True
            return None
        except sdk.ChainError as error:
            if error.__cause__ is not None and self._is_uncertain(error):
                return None
            raise
        if not result.success and result.block_hash is None and self._is_uncertain(result.error):
            return None
        return result.raise_for_failure()

    def _is_uncertain(self, error: Any) -> bool:
        """Whether an extrinsic may be in a block for all that. The SDK reports a connection that
        broke under a submission as an error without name or code, and not as one of its own."""
        if error is None or error.name in _UNCERTAIN:
            return True
        return error.name is None and error.code is self._sdk.ErrorCode.UNKNOWN

    async def _lost_update(self, uid: int, after: int) -> int:
        """The block in which this neuron's weights were set or committed, after a lost answer."""

        async def seen() -> int | None:
            now = (await self.block()).number if self._finalization else await self._head()
            updates = await self._read("LastUpdate", [self.netuid], now)
            return int(updates[uid]) if int(updates[uid]) > after else None

        return await self._look_for(seen, "the weights")

    async def _look_for(self, seen: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Poll the chain for an extrinsic whose answer was lost."""
        block_time = await self._time_of_a_block()
        for _ in range(self._recovery_blocks):
            try:
                found = await seen()
            except ChainUnreachable:
                found = None
            if found is not None:
                return found
            await self._clock.sleep(block_time)
        raise SubmissionUnknown(
            f"The connection broke while {what} went to subnet {self.netuid}, and they were not "
            f"seen within {self._recovery_blocks} blocks. They may still come: look before "
            "trying again."
        )

    async def _read_back(
        self, block: int, uid: int, row: Mapping[int, int], view: ChainView
    ) -> WeightsReceipt:
        actual = await self._row(uid, block)
        expected = await self._expected(row, uid, block)
        if not rows_equal(list(expected.items()), list(actual.items())):
            raise WeightsMismatch(
                f"At block {block} the chain has other weights for uid {uid} than were submitted: "
                f"{actual} instead of {expected} (uid to u16). Set them again.",
                block,
            )
        await self._check_holders(list(actual), block, view)
        by_hotkey = await self._by_hotkey(actual, block)
        return WeightsReceipt(block=block, on_chain=to_ppm(by_hotkey), committed_only=False)

    async def _check_holders(self, uids: list[int], block: int, view: ChainView) -> None:
        """Raise WeightsMismatch where a uid passed on between the look at it and the block."""
        meant = {neuron.uid: neuron.hotkey for neuron in view.neurons}
        for uid, hotkey in zip(uids, await self._hotkeys(uids, block), strict=True):
            if hotkey != meant.get(Uid(uid)):
                raise WeightsMismatch(
                    f"A uid passed on while the weights were set: at block {block} a share stands "
                    f"for {hotkey}, to whom it does not belong. Set the weights again.",
                    block,
                )

    async def _expected(self, row: Mapping[int, int], own: int, block: int) -> dict[int, int]:
        """What the SDK makes of a row: clipped to the subnet's limit, and scaled to u16."""
        rules = await asyncio.to_thread(importlib.import_module, "bittensor.intents.weights")
        uids, values = list(row), [float(ppm) for ppm in row.values()]
        limit = await self._read("MaxWeightsLimit", [self.netuid], block)
        if uids != [own] and limit is not None and int(limit) < U16_MAX:
            values = rules.clip_to_max_weight(values, int(limit) / U16_MAX)
        kept, scaled = rules.normalize(uids, values)
        return dict(zip(kept, scaled, strict=True))


def _raise_not_registered(hotkey: str, netuid: int) -> NoReturn:
    raise NotRegistered(
        f"The hotkey {hotkey} is not registered on subnet {netuid}. Register it first, with "
        f"`btcli subnets register --netuid {netuid}`."
    )


async def _address(host: str) -> str:
    """An address as the chain stores it; a name is looked up, IPv4 first."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ChainError(
            f"The host {host!r} has no address ({error}). The chain stores addresses: give one, "
            "or a name that resolves."
        ) from error
    addresses = sorted((f is not socket.AF_INET, str(a[0])) for f, _, _, _, a in found)
    return str(ipaddress.ip_address(addresses[0][1]))
