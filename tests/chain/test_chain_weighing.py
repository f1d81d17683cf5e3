"""An epoch's weights on the chain, whatever goes wrong: the real SDK over the local chain, whose
faults are ordered. The clock is moved by whoever sleeps."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from signers import WatchedSigner

from sn46.chain.errors import RateLimited, SubmissionUnknown, WeightsMismatch
from sn46.chain.local import Fault
from sn46.chain.sdk import SdkChain
from sn46.mechanism.epochs import Epoch, epoch_at
from sn46.mechanism.names import Hotkey
from sn46.validator.epoch_run import EpochLostError, insist
from sn46.validator.journal import Journal
from sn46.validator.weighing import DOUBT_BLOCKS, Weighing

BLOCK = timedelta(seconds=12)


class Killed(BaseException):
    """The process dies here, in this process."""


@dataclass
class Scene:
    """A validator whose epoch's evidence is in, and its chain."""

    network: Any
    folder: Path
    machines: int = 0
    epoch: Epoch = field(init=False)

    def __post_init__(self) -> None:
        self.network.clock.advance(hours=1, seconds=5)
        self.epoch = epoch_at(self.network.clock.now(), 14_400).previous()
        assert self.network.clock.now() > self.epoch.evidence_deadline

    def weights(self, **ppm: int) -> dict[Hotkey, int]:
        ppm = ppm or {"ann": 700_000, "bob": 300_000}
        return {self.network.hotkey(name): value for name, value in ppm.items()}

    def machine(self) -> Journal:
        """A disk without a memory."""
        self.machines += 1
        return Journal(self.folder / f"machine{self.machines}", self.epoch.id)

    def weighing(self, journal: Journal, chain: Any = None, epoch: Epoch | None = None) -> Weighing:
        return Weighing(
            chain or self.network.open("vali"),
            journal,
            clock=self.network.clock,
            hotkey=Hotkey(self.network.hotkey("vali")),
            epoch=epoch or self.epoch,
        )

    async def done(
        self,
        journal: Journal,
        chain: Any = None,
        weights: Mapping[Hotkey, int] | None = None,
        until: datetime | None = None,
    ) -> dict[str, Any]:
        """Set until it is done, as an epoch's run does."""
        weighing = self.weighing(journal, chain)
        return await insist(
            self.network.clock,
            until or self.epoch.results_deadline,
            "setting weights",
            lambda: weighing.attempt(weights or self.weights()),
        )

    def sent(self) -> int:
        """How many extrinsics of any outcome are in blocks."""
        with closing(sqlite3.connect(self.network.local.path)) as file:
            return int(file.execute("SELECT COUNT(*) FROM extrinsics").fetchone()[0])

    async def row(self) -> dict[Hotkey, int]:
        self.network.clock.advance(seconds=24)
        return dict(await self.network.open(None).weights_of(self.network.hotkey("vali")))

    def acting(self, act) -> SdkChain:
        """A chain whose first submission meets something that happens just before it is signed."""
        acts = iter([act])
        signer = WatchedSigner(
            self.network.wallets["vali"].hotkey, lambda: next(acts, lambda: None)()
        )
        return self.network.open("vali", signer=signer)

    def replace_ann(self) -> None:
        self.network.local.replace(
            self.network.hotkey("ann"),
            by_hotkey=self.network.hotkey("newcomer"),
            by_coldkey=self.network.coldkey("newcomer"),
        )


@pytest.fixture
def scene(network, tmp_path: Path) -> Scene:
    return Scene(network, tmp_path)


@pytest.fixture(params=[False, True], ids=["plaintext", "commit-reveal"])
def both(request, make_network, tmp_path: Path) -> Scene:
    """Either way of setting weights."""
    return Scene(make_network(commit_reveal=request.param), tmp_path)


async def test_what_was_set_is_found_by_whoever_comes_later(both: Scene) -> None:
    first = await both.done(both.machine())
    assert "found_on_chain" not in first
    again = await both.done(both.machine())
    assert again["found_on_chain"]
    assert (again["block"], again["committed_only"]) == (first["block"], first["committed_only"])
    assert again["on_chain"] == first["on_chain"]
    assert both.sent() == 1


@pytest.mark.parametrize("answer", ["arrives", "is lost"])
async def test_a_process_that_dies_after_it_sent(both: Scene, answer: str) -> None:
    if answer == "is lost":
        both.network.local.inject_fault(Fault.TIMEOUT_AFTER_SUBMISSION)
    chain = both.network.open("vali")

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(chain, name)

        async def set_weights(self, weights: Any) -> Any:
            await chain.set_weights(weights)
            raise Killed

    journal = both.machine()
    with pytest.raises(Killed):
        await both.done(journal, Dying())
    assert (await both.done(journal))["found_on_chain"]
    assert both.sent() == 1


async def test_a_process_that_dies_before_it_sent(both: Scene) -> None:
    """Nobody knows then, so it is waited for, and sent when it can no more be on its way."""

    def die() -> None:
        raise Killed

    journal = both.machine()
    with pytest.raises(Killed):
        await both.done(journal, both.acting(die))
    begun = both.network.clock.now()
    with pytest.raises(SubmissionUnknown, match="not known"):
        await both.weighing(journal).attempt(both.weights())
    assert both.sent() == 0
    done = await both.done(journal)
    assert "found_on_chain" not in done
    assert both.sent() == 1
    waited = both.network.clock.now() - begun
    assert DOUBT_BLOCKS * BLOCK <= waited <= 2 * DOUBT_BLOCKS * BLOCK


async def test_the_same_weights_of_the_epoch_before_are_not_this_epochs(scene: Scene) -> None:
    scene.network.clock.advance(hours=-2)
    before = await scene.network.open("vali").set_weights(scene.weights())
    scene.network.clock.advance(hours=2)
    assert await scene.network.open("vali").stands(scene.weights())
    done = await scene.done(scene.machine())
    assert done["block"] > before.block
    assert scene.sent() == 2


async def test_registering_is_no_setting_of_weights(scene: Scene) -> None:
    """The chain counts it as an update of the hotkey all the same."""
    network = scene.network
    hotkey, coldkey = network.hotkey("stranger"), network.coldkey("stranger")
    uid = network.local.register(hotkey, coldkey, stake=10**15, validator_permit=True)
    network.clock.advance(seconds=24)
    chain = network.open("stranger")
    assert (await chain.view()).neurons[uid].hotkey == hotkey
    assert await chain.last_update(Hotkey(hotkey)) is None
    network.clock.advance(hours=1)
    receipt = await chain.set_weights(scene.weights())
    update = await chain.last_update(Hotkey(hotkey))
    assert update is not None
    assert update.block == receipt.block
    assert abs(update.at - network.clock.now()) < 3 * BLOCK


async def test_a_rate_limit_is_waited_for_once(both: Scene) -> None:
    """Another epoch's weights were set just before, by a clock that is wrong or an owner's hand:
    what stands there is no more than an hour old, and not wanted."""
    journal = both.machine()
    await both.network.open("vali").set_weights(both.weights(cid=1_000_000))
    began = both.network.clock.now()
    wrong = int(both.network.local.head())
    journal.put("attempt", {"settled": "another's", "wrong_until": wrong})
    with pytest.raises(RateLimited) as limited:
        await both.weighing(journal).attempt(both.weights())
    assert limited.value.wait is not None
    assert limited.value.wait == limited.value.blocks_left * BLOCK

    await both.done(journal)
    waited = both.network.clock.now() - began
    assert limited.value.wait <= waited <= limited.value.wait + 5 * BLOCK
    assert both.sent() == 2


async def test_a_chain_that_is_away_while_the_weights_are_on_their_way(both: Scene) -> None:
    local = both.network.local

    def cut() -> None:
        local.inject_fault(Fault.TIMEOUT_AFTER_SUBMISSION)
        both.network.clock.after(timedelta(minutes=20), lambda: local.set_reachable(True))
        both.network.clock.after(timedelta(seconds=1), lambda: local.set_reachable(False))

    done = await both.done(both.machine(), both.acting(cut))
    assert done["found_on_chain"]
    assert both.sent() == 1


async def test_what_never_reached_the_chain_is_sent_again(both: Scene) -> None:
    both.network.local.inject_fault(Fault.LOST)
    done = await both.done(both.machine())
    assert "found_on_chain" not in done
    assert both.sent() == 1


async def test_a_uid_that_passes_on_under_the_weights(both: Scene) -> None:
    """The share would be a stranger's: it is noticed, and set right when the rate limit allows."""
    done = await both.done(both.machine(), both.acting(both.replace_ann))
    assert both.sent() == 2
    if done["committed_only"]:
        return
    row = await both.row()
    assert both.network.hotkey("newcomer") not in row
    assert row[both.network.hotkey("owner")] == pytest.approx(700_000, abs=20)


async def test_a_row_that_is_not_right_is_not_taken_for_done(scene: Scene) -> None:
    """The process dies before it can note that a share stands for a stranger."""
    chain = scene.acting(scene.replace_ann)

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(chain, name)

        async def set_weights(self, weights: Any) -> Any:
            try:
                await chain.set_weights(weights)
            except WeightsMismatch as error:
                raise Killed from error

    journal = scene.machine()
    with pytest.raises(Killed):
        await scene.done(journal, Dying())
    await scene.done(journal)
    assert scene.sent() == 2
    assert (await scene.row())[scene.network.hotkey("owner")] == pytest.approx(700_000, abs=20)


async def test_a_share_that_fell_to_the_owner_is_recognised(scene: Scene) -> None:
    scene.replace_ann()
    scene.network.clock.advance(seconds=24)
    await scene.done(scene.machine())
    assert (await scene.done(scene.machine()))["found_on_chain"]
    assert scene.sent() == 1


async def test_a_permit_that_was_lost_and_comes_back(both: Scene) -> None:
    local, hotkey = both.network.local, both.network.hotkey("vali")
    local.set_permit(hotkey, False)
    both.network.clock.advance(seconds=24)
    both.network.clock.after(timedelta(minutes=40), lambda: local.set_permit(hotkey, True))
    began = both.network.clock.now()
    await both.done(both.machine())
    assert both.sent() == 1, "without a permit nothing is sent, since that costs a fee"
    assert both.network.clock.now() - began < timedelta(minutes=50)


async def test_a_permit_that_never_comes_back(both: Scene) -> None:
    both.network.local.set_permit(both.network.hotkey("vali"), False)
    both.network.clock.advance(seconds=24)
    with pytest.raises(EpochLostError, match="permit comes with more stake") as lost:
        await both.done(both.machine())
    assert lost.value.doing == "setting weights"
    assert both.sent() == 0
    assert both.network.clock.sleeps < 40, "it is not asked for all the time"


async def test_a_new_runtime_under_a_running_process(both: Scene) -> None:
    """What was signed for the former one is refused; the SDK learns the new one by reconnecting."""
    chain = both.network.open("vali")
    await chain.view()
    both.network.local.upgrade_runtime()
    both.network.clock.advance(seconds=24)
    began = both.network.clock.now()
    done = await both.done(both.machine(), chain)
    assert "found_on_chain" not in done
    assert both.sent() == 1
    assert both.network.clock.now() - began < timedelta(minutes=3)


async def test_a_new_runtime_between_signature_and_block(both: Scene) -> None:
    chain = both.acting(both.network.local.upgrade_runtime)
    await both.done(both.machine(), chain)
    assert both.sent() == 1
