"""Two API servers behind Caddy, on PostgreSQL and Valkey: one answer, one count, and either of
them may die. They are started once; each test looks at one side of them."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from localnet_helpers import eventually
from localnet_replicas import CURRENT, Replicas, replicas_over, start_database

from sn46.client.api import ApiClient, ApiError, ApiUnavailable, Retries
from sn46.localnet.people import Person
from sn46.store.s3 import S3Access

pytestmark = pytest.mark.asyncio(loop_scope="module")

UPLOAD = "/api/v1/s3-access/miner-upload"
EPOCHS = "/api/v1/epochs"
RETRIES = Retries(attempts=6)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(s3_access: S3Access) -> AsyncIterator[Replicas]:
    async with replicas_over(s3_access) as made:
        yield made


class Load:
    """Clients that ask for the assignment and report their status, over and over."""

    def __init__(self, replicas: Replicas, people: list[Person]) -> None:
        self.replicas = replicas
        self.answered = 0
        self.escaped: list[Exception] = []
        self._ending = asyncio.Event()
        self._clients = [replicas.client(person, RETRIES) for person in people]

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._ask(client)) for client in self._clients]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()
        await asyncio.gather(*self._tasks)
        for client in self._clients:
            await client.close()

    async def _ask(self, client: ApiClient) -> None:
        while not self._ending.is_set():
            try:
                got = (await client.current()).assignment
                await client.report_status(
                    epoch_id=got.epoch.id, nonce=got.nonce, status="in_progress",
                    listings_found=self.answered, s3_upload_complete=False,
                )  # fmt: skip
            except (ApiError, ApiUnavailable) as error:
                self.escaped.append(error)
            self.answered += 1
            await asyncio.sleep(0.15)

    async def more(self, count: int) -> None:
        """Until so many more rounds were made."""
        goal = self.answered + count

        async def reached() -> bool:
            return self.answered >= goal

        await eventually(reached)


async def kill(replicas: Replicas, name: str, number: int = signal.SIGKILL) -> None:
    """End a service's process, and wait for another one."""
    service = replicas.services[name]
    pid = service.pid
    assert pid is not None
    os.kill(pid, number)

    async def replaced() -> bool:
        return service.pid not in (None, pid)

    await eventually(replaced)


async def test_both_give_the_same_bytes(replicas: Replicas) -> None:
    one, two = replicas.plan.people.miners[:2]
    bases = [replicas.of("api-1"), replicas.of("api-2"), replicas.url, replicas.url]
    answers = [await replicas.current(base, who) for base in bases for who in (one, two)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({(answer.content, answer.headers["etag"]) for answer in answers}) == 1


async def test_requests_go_to_both(replicas: Replicas) -> None:
    before = [await replicas.served(name) for name in replicas.plan.apis]

    async def served() -> bool:
        await replicas.current(replicas.url, replicas.plan.people.miners[0])
        after = [await replicas.served(name) for name in replicas.plan.apis]
        return all(now > then for now, then in zip(after, before, strict=True))

    # By turn; on a busy machine one may fail a health check and be left out for a moment.
    await eventually(served)


async def test_a_limit_is_one_over_both(replicas: Replicas) -> None:
    miner = replicas.plan.people.miners[2]
    bases = [replicas.of("api-1"), replicas.of("api-2"), replicas.url] * 6

    async def ask(base: str) -> tuple[int, bytes]:
        headers = replicas.signed(miner.wallet, "POST", UPLOAD, b"{}")
        answer = await replicas.http.post(f"{base}{UPLOAD}", content=b"{}", headers=headers)
        return answer.status_code, answer.content

    answers = await asyncio.gather(*(ask(base) for base in bases))
    assert Counter(status for status, _ in answers) == {200: 5, 429: 13}
    assert len({body for status, body in answers if status == 200}) == 1


async def test_what_one_has_seen_the_other_refuses(replicas: Replicas) -> None:
    headers = replicas.signed(replicas.plan.people.miners[0].wallet, "GET", CURRENT)
    first = await replicas.http.get(f"{replicas.of('api-1')}{CURRENT}", headers=headers)
    assert first.status_code == 200
    for base in (replicas.of("api-2"), replicas.url):
        again = await replicas.http.get(f"{base}{CURRENT}", headers=headers)
        assert (again.status_code, again.json()["code"]) == (401, "replayed_request")


async def test_a_caller_cannot_choose_its_address(replicas: Replicas) -> None:
    async def left(base: str, claimed: str) -> int:
        headers = {"X-Forwarded-For": claimed}
        answer = await replicas.http.get(f"{base}{EPOCHS}", headers=headers)
        return int(answer.headers["ratelimit-remaining"])

    claims = [f"198.51.100.{n}" for n in range(4)]
    through_caddy = [await left(replicas.url, claim) for claim in claims]
    assert through_caddy == list(range(through_caddy[0], through_caddy[0] - 4, -1))
    # The replicas believe their proxy's word: Caddy passes its callers' addresses on.
    assert len({await left(replicas.of("api-1"), claim) for claim in claims}) == 1


async def test_figures_are_closed_and_large_bodies_refused(replicas: Replicas) -> None:
    for path in ("/metrics", "/api/v1/metrics", "/api/v1/../../metrics", "/%6detrics"):
        assert (await replicas.http.get(f"{replicas.url}{path}")).status_code == 404
    assert (await replicas.http.get(f"{replicas.of('api-1')}/metrics")).status_code == 200
    for size, code in ((65_000, 401), (66_000, 413), (150_000, 413)):
        answer = await replicas.http.post(f"{replicas.url}{UPLOAD}", content=b"x" * size)
        assert answer.status_code == code


@pytest.mark.parametrize("victim", ["api-2", "api-1"])
async def test_a_replica_may_die_under_load(replicas: Replicas, victim: str) -> None:
    service = replicas.services[victim]
    deaths = service.deaths
    async with Load(replicas, list(replicas.plan.people.miners)) as load:
        await load.more(20)
        await kill(replicas, victim)
        await load.more(20)
        await eventually(replicas.all_fit)

        async def serves_again() -> bool:
            return await replicas.served(victim) > 0

        await eventually(serves_again)
        await load.more(20)
    assert load.escaped == []
    assert service.deaths == deaths + 1


async def test_a_replica_that_is_not_fit_gets_no_traffic(replicas: Replicas) -> None:
    miner = replicas.plan.people.miners[0]

    async def unfit() -> bool:
        return not await replicas.is_fit(replicas.of("api-2"))

    async def spared() -> bool:
        before = await replicas.served("api-1")
        codes = [(await replicas.current(replicas.url, miner)).status_code for _ in range(6)]
        return codes == [200] * 6 and await replicas.served("api-1") == before + 6

    replicas.relay.cut()
    await eventually(unfit)
    await eventually(spared)
    await replicas.relay.mend()

    async def shared_again() -> bool:
        before = await replicas.served("api-2")
        for _ in range(4):
            await replicas.current(replicas.url, miner)
        return await replicas.served("api-2") == before + 2

    await eventually(shared_again)


async def checks_failed(replicas: Replicas) -> Counter[str]:
    """How often Caddy has found each replica unfit."""
    log = (replicas.plan.data.logs / "caddy.log").read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return Counter(line["host"] for line in lines if line.get("status_code") == 503)


async def test_a_database_that_dies_is_waited_for(replicas: Replicas) -> None:
    miner = replicas.plan.people.miners[0]
    async with replicas.client(miner, RETRIES) as client:
        got = (await client.current()).assignment
        pid = replicas.services["postgres"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await client.report_status(
            epoch_id=got.epoch.id, nonce=got.nonce, status="in_progress", listings_found=7,
            s3_upload_complete=False,
        )  # fmt: skip
    await eventually(replicas.all_fit)
    for name in replicas.plan.apis:
        log = (replicas.plan.data.logs / f"{name}.log").read_text()
        assert "background_work_ended" not in log
        assert "request_failed" not in log


async def test_without_a_database_what_is_known_is_served(replicas: Replicas) -> None:
    """No replica is fit then, and their own answers are better than their proxy's."""
    miner = replicas.plan.people.miners[0]
    nonce = (await replicas.current(replicas.url, miner)).json()["nonce"]
    before = await checks_failed(replicas)
    await replicas.services["postgres"].stop()

    async def none_is_fit() -> bool:
        failed = await checks_failed(replicas)
        hosts = [replicas.plan.address(name) for name in replicas.plan.apis]
        return all(failed[host] >= before[host] + 3 for host in hosts)

    await eventually(none_is_fit)
    for _ in range(6):
        assert (await replicas.current(replicas.url, miner)).json()["nonce"] == nonce
    status = await replicas.http.get(f"{replicas.url}{EPOCHS}")
    assert (status.status_code, status.json()["code"]) == (503, "database_unavailable")
    assert status.headers["retry-after"] == "5"
    await start_database(replicas)
    await eventually(replicas.all_fit)
    for name in replicas.plan.apis:
        parts = (await replicas.http.get(f"{replicas.of(name)}/readyz")).json()["parts"]
        assert parts["scheduler"] == {"ok": True, "detail": "works"}


async def refusal(replicas: Replicas, person: Person) -> tuple[int, str, str]:
    answer = await replicas.current(replicas.url, person)
    code = answer.json().get("code", "")
    return answer.status_code, code, answer.headers.get("retry-after", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_counters_may_be_away(replicas: Replicas, number: int) -> None:
    """Nobody is served uncounted; it is said so, and it passes by itself."""
    miner = replicas.plan.people.miners[0]
    service = replicas.services["valkey"]
    seen = replicas.signed(miner.wallet, "GET", CURRENT)
    first = await replicas.http.get(f"{replicas.url}{CURRENT}", headers=seen)
    assert first.status_code == 200
    pid = service.pid
    assert pid is not None
    os.kill(pid, number)

    async def refused() -> bool:
        return await refusal(replicas, miner) == (503, "limits_unavailable", "5")

    async def served() -> bool:
        return (await refusal(replicas, miner))[0] == 200

    if number == signal.SIGSTOP:
        await eventually(refused)
        os.kill(pid, signal.SIGCONT)
    await eventually(served)
    await eventually(replicas.all_fit)
    again = await replicas.http.get(f"{replicas.url}{CURRENT}", headers=seen)
    assert (again.status_code, again.json()["code"]) == (401, "replayed_request")
