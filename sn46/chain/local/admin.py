"""Setting a local chain up, and changing it from outside: what the chain's own economy does on
a real one (stake, permits, registrations), and what its owner does (hyperparameters)."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sn46.chain.local import commits, neurons, pool
from sn46.chain.local.blocks import to_ms
from sn46.chain.local.errors import DispatchError, LocalChainError
from sn46.chain.local.faults import Fault
from sn46.chain.local.file import ChainFile, Writer, create_file
from sn46.chain.local.runtime import set_revealed_row
from sn46.chain.local.views import HYPERPARAMETERS
from sn46.clock import Clock, SystemClock
from sn46.mechanism.signing import is_hotkey


class LocalNeuron(NamedTuple):
    """A neuron that the chain starts with. ``stake`` is in rao (10^9 rao = 1 alpha)."""

    hotkey: str
    coldkey: str
    stake: int
    validator_permit: bool


def create_local_chain(
    path: str | Path,
    *,
    netuid: int,
    block_seconds: float,
    owner_hotkey: str,
    owner_coldkey: str,
    neurons: Iterable[tuple[str, str, int, bool]] = (),
    commit_reveal: bool = False,
    weights_rate_limit: int = 100,
    tempo: int = 360,
    genesis: datetime | None = None,
    clock: Clock | None = None,
) -> "LocalChain":
    """Create a chain with one subnet.

    Args:
        path: the file; it must not exist. SQLite keeps two more beside it.
        block_seconds: seconds from block to block, in whole milliseconds.
        neurons: (hotkey, coldkey, stake in rao, permit), which get uids in this order. The
            owner's hotkey takes uid 0 before them where it is not among them.
        weights_rate_limit, tempo: in blocks. An epoch of the chain lasts ``tempo`` blocks.
        genesis: when block 0 was produced; now by default. One in the past gives the chain
            that much history at once.

    Raises:
        LocalChainError: where the path is taken or a value is impossible.
    """
    clock = clock or SystemClock()
    block_ms = round(block_seconds * 1000)
    rows = [LocalNeuron(*row) for row in neurons]
    if owner_hotkey not in [row.hotkey for row in rows]:
        rows.insert(0, LocalNeuron(owner_hotkey, owner_coldkey, 0, False))
    _check_start(rows, owner_coldkey, block_ms, tempo)
    hyper = HYPERPARAMETERS | {
        "CommitRevealWeightsEnabled": commit_reveal,
        "WeightsSetRateLimit": weights_rate_limit,
    }
    state: dict[tuple[str, str], Any] = {("hyper", k): v for k, v in hyper.items()}
    state[("subnet", "owner_hotkey")] = owner_hotkey
    state[("subnet", "owner_coldkey")] = owner_coldkey
    for uid, row in enumerate(rows):
        state[("uid_hotkey", str(uid))] = row.hotkey
        state[("hotkey_uid", row.hotkey)] = uid
        state[("owner", row.hotkey)] = row.coldkey
        state[("stake", row.hotkey)] = int(row.stake)
        state[("permit", str(uid))] = bool(row.validator_permit)
        state[("last_update", str(uid))] = 0
        state[("registered_at", str(uid))] = 0
    create_file(
        Path(path),
        netuid=netuid,
        tempo=tempo,
        genesis_ms=to_ms(genesis or clock.now()),
        block_ms=block_ms,
        state=state,
    )
    return LocalChain(path, clock=clock)


def _check_start(rows: list[LocalNeuron], coldkey: str, block_ms: int, tempo: int) -> None:
    addresses = [row.hotkey for row in rows] + [row.coldkey for row in rows] + [coldkey]
    if bad := [address for address in addresses if not is_hotkey(address)]:
        raise LocalChainError(f"{bad[0]!r} is not an ss58 address.")
    if len({row.hotkey for row in rows}) != len(rows):
        raise LocalChainError("A hotkey stands twice among the neurons.")
    if block_ms < 1 or tempo < 1 or any(row.stake < 0 for row in rows):
        raise LocalChainError("Block time and tempo must be above zero, and no stake below it.")


class LocalChain:
    """A local chain seen by who runs it. Every change takes effect with the next block, and is
    read by ``Chain.view`` once that is finalized; the methods return that block's number."""

    def __init__(self, path: str | Path, *, clock: Clock | None = None) -> None:
        self._file = ChainFile(path, clock or SystemClock())

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def netuid(self) -> int:
        return self._file.netuid

    def head(self) -> int:
        """The newest block's number."""
        return self._file.head()

    def finalized(self) -> int:
        """The newest finalized block's number."""
        return self._file.finalized()

    def block_time(self) -> timedelta:
        return timedelta(milliseconds=self._file.blocks.block_ms)

    def register(
        self, hotkey: str, coldkey: str, *, stake: int = 0, validator_permit: bool = False
    ) -> int:
        """Register a hotkey and return its uid: the next free one, or on a full subnet that of
        the neuron that is pruned for it.

        Raises:
            LocalChainError: where it is registered already.
        """
        return self._seat(
            hotkey, stake, validator_permit, lambda w: _append_or_replace(w, hotkey, coldkey)
        )

    def replace(
        self,
        hotkey: str,
        *,
        by_hotkey: str,
        by_coldkey: str,
        stake: int = 0,
        validator_permit: bool = False,
    ) -> int:
        """Deregister a hotkey in the only way a chain does: another takes its uid, which is
        returned.

        Raises:
            LocalChainError: where the first is not registered, or the second is.
        """

        def change(writer: Writer) -> int:
            uid = self._uid(writer, hotkey)
            if writer.value("hotkey_uid", by_hotkey) is not None:
                raise LocalChainError(f"{by_hotkey} is registered already.")
            neurons.replace(writer, uid, by_hotkey, by_coldkey)
            return uid

        return self._seat(by_hotkey, stake, validator_permit, change)

    def set_permit(self, hotkey: str, validator_permit: bool) -> int:
        def change(writer: Writer) -> int:
            writer.put("permit", str(self._uid(writer, hotkey)), validator_permit)
            return writer.block

        return self._file.write(change)

    def set_stake(self, hotkey: str, stake: int) -> int:
        """``stake`` in rao."""

        def change(writer: Writer) -> int:
            self._uid(writer, hotkey)
            writer.put("stake", hotkey, stake)
            return writer.block

        return self._file.write(change)

    def set_hyperparameter(self, name: str, value: int | bool) -> int:
        """Set one of ``views.HYPERPARAMETERS``, by its storage item's name.

        Raises:
            LocalChainError: where this chain has none of that name.
        """
        if name not in HYPERPARAMETERS:
            raise LocalChainError(f"{name!r} is none of {', '.join(sorted(HYPERPARAMETERS))}.")

        def change(writer: Writer) -> int:
            writer.put("hyper", name, value)
            return writer.block

        return self._file.write(change)

    def upgrade_runtime(self) -> int:
        """Give the chain a new runtime version, in which nothing else is new. Whoever signs for
        the former one is refused."""

        def change(writer: Writer) -> int:
            version = pool.spec_version(writer.value("runtime", "spec_version"))
            writer.put("runtime", "spec_version", version + 1)
            return writer.block

        return self._file.write(change)

    def inject_fault(self, fault: Fault, *, hotkey: str | None = None) -> None:
        """Order a fault for the next extrinsic, of one hotkey or of any."""
        self._file.write(
            lambda writer: writer.connection.execute(
                "INSERT INTO faults (kind, hotkey) VALUES (?, ?)", (fault.value, hotkey)
            )
        )

    def set_reachable(self, reachable: bool) -> None:
        """Whether the chain answers at all. Lasts until it is set again, over restarts too."""
        if reachable:
            self._file.outage_marker.unlink(missing_ok=True)
        else:
            self._file.outage_marker.touch()

    def store_pulse(self, number: int, signature: str) -> int:
        """Keep the drand beacon's signature (hex) of a round; commits that wait for it are
        revealed by the next reader whose block is in their reveal epoch.

        Raises:
            LocalChainError: where it is not that round's signature.
        """
        commits.check_pulse(number, signature)

        def change(writer: Writer) -> int:
            writer.put("pulse", str(number), signature)
            return writer.block

        return self._file.write(change)

    def fetch_pulses(self, beacon: Callable[[int], str] = commits.drand_signature) -> int:
        """Get the pulses that due commits wait for, over the network, and return how many came.
        To be called from time to time where commit-reveal is on. A beacon that cannot be reached
        leaves the commits waiting."""
        now, head = self._file.clock.now(), self._file.head()
        stored = self._file.items("pulse", head)
        rounds = {int(entry["round"]) for entry in commits.due(self._file).values()}
        got = 0
        for number in sorted(rounds):
            if str(number) in stored or commits.round_time(number) > now:
                continue
            try:
                signature = beacon(number)
            except (ValueError, OSError):
                continue
            self.store_pulse(number, signature)
            got += 1
        return got

    def reveal(self) -> int:
        """Reveal now what can be revealed; how many commits set weights."""
        return commits.reveal(self._file, set_revealed_row)

    def close(self) -> None:
        self._file.close()

    def _seat(
        self, hotkey: str, stake: int, validator_permit: bool, take: Callable[[Writer], int]
    ) -> int:
        if not is_hotkey(hotkey):
            raise LocalChainError(f"{hotkey!r} is not an ss58 address.")

        def change(writer: Writer) -> int:
            uid = take(writer)
            writer.put("stake", hotkey, stake)
            writer.put("permit", str(uid), validator_permit)
            return uid

        return self._file.write(change)

    @staticmethod
    def _uid(writer: Writer, hotkey: str) -> int:
        uid = writer.value("hotkey_uid", hotkey)
        if uid is None:
            raise LocalChainError(f"{hotkey} is not registered on this chain.")
        return int(uid)


def _append_or_replace(writer: Writer, hotkey: str, coldkey: str) -> int:
    try:
        return neurons.append_or_replace(writer, hotkey, coldkey)
    except DispatchError as error:
        raise LocalChainError(f"{hotkey} cannot be registered: {error.name}.") from error
