"""The portal's limits and bad days, over real connections."""

import json
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest
from portal_process import CALM, portal

from sn46.certificates import trusted
from sn46.localnet.portal.clients import Allowance, Clients
from sn46.localnet.portal.faults import FaultPlan, FaultRates, PortalConfigError

UNLIMITED = ("--rate", "1000000", "--burst", "1000000")
STORMY = ("--p429", "0.2", "--p403", "0.15", "--captcha", "0.1", "--slow", "0")


def from_address(url: str, address: str) -> httpx.Client:
    transport = httpx.HTTPTransport(local_address=address, verify=trusted())
    return httpx.Client(base_url=url, transport=transport)


def kinds(url: str, address: str, requests: int) -> list[str]:
    """What became of each of so many requests."""
    with from_address(url, address) as client:
        answers = [client.get("/api/property?id=7129300520") for _ in range(requests)]
    return [
        "captcha" if a.headers["content-type"].startswith("text/html") else str(a.status_code)
        for a in answers
    ]


def test_a_client_over_its_allowance_is_told_when_to_come_back() -> None:
    with portal(*CALM, "--rate", "0.01", "--burst", "5") as url:
        with from_address(url, "127.0.0.7") as client:
            answers = [client.get("/api/search?zip=98039") for _ in range(7)]
        assert [a.status_code for a in answers] == [200] * 5 + [429] * 2
        assert 90 <= int(answers[-1].headers["Retry-After"]) <= 100
        with from_address(url, "127.0.0.8") as neighbour:
            assert neighbour.get("/api/search?zip=98039").status_code == 200
            pretended = {"X-Forwarded-For": "127.0.0.7", "Forwarded": "for=127.0.0.7"}
            assert neighbour.get("/api/search?zip=98039", headers=pretended).status_code == 200
            assert neighbour.get("/health").status_code == 200
        clients = httpx.get(f"{url}/stats", verify=trusted()).json()["clients"]
    assert clients == {
        "127.0.0.7": {"requests": 7, "statuses": {"200": 5, "429": 2}, "faults": {}},
        "127.0.0.8": {"requests": 2, "statuses": {"200": 2}, "faults": {}},
    }


def test_an_allowance_fills_up_again_to_its_burst() -> None:
    now = 0.0
    clients = Clients(Allowance(rate=2.0, burst=3), lambda: now)
    client = clients.arrive("a")
    assert [clients.take_token(client) for _ in range(4)] == [0, 0, 0, 1]
    now = 0.5
    assert [clients.take_token(client) for _ in range(2)] == [0, 1]
    now = 1000.0
    assert [clients.take_token(client) for _ in range(4)] == [0, 0, 0, 1]


def test_bad_days_follow_from_the_seed_and_the_client_alone() -> None:
    with (
        portal(*UNLIMITED, *STORMY, "--seed", "one") as first,
        portal(*UNLIMITED, *STORMY, "--seed", "one") as twin,
        portal(*UNLIMITED, *STORMY, "--seed", "two") as other,
    ):
        seen = kinds(first, "127.0.0.21", 200)
        kinds(twin, "127.0.0.99", 3)
        assert kinds(twin, "127.0.0.21", 200) == seen
        assert kinds(other, "127.0.0.21", 200) != seen
        assert kinds(first, "127.0.0.22", 200) != seen
        stats = httpx.get(f"{first}/stats", verify=trusted()).json()["clients"]["127.0.0.21"]
    counts = Counter(seen)
    assert set(counts) == {"200", "429", "403", "captcha"}
    assert 20 <= counts["429"] <= 60
    assert stats["faults"] == {
        "captcha": counts["captcha"],
        "forbidden": counts["403"],
        "too_many": counts["429"],
    }
    assert stats["statuses"]["429"] == counts["429"]


def test_the_rates_are_kept_over_many_requests() -> None:
    plan = FaultPlan(seed="s", rates=FaultRates(0.01, 0.005, 0.0, 0.01))
    seen = Counter(plan.fault("127.0.0.1", n) for n in range(50_000))
    assert 400 < seen["too_many"] < 600  # type: ignore[index]
    assert 190 < seen["forbidden"] < 310  # type: ignore[index]
    assert 400 < seen["slow"] < 600  # type: ignore[index]
    assert "captcha" not in seen
    assert all(0.3 <= plan.delay("127.0.0.1", n) < 1.0 for n in range(500))


@pytest.mark.parametrize("rates", [(-0.1, 0, 0, 0), (0.5, 0.4, 0.1, 0.1)])
def test_rates_that_cannot_be_are_refused(rates: tuple[float, float, float, float]) -> None:
    with pytest.raises(PortalConfigError, match="probabilities"):
        FaultRates(*rates)


def test_a_slow_answer_comes_late_and_whole() -> None:
    with portal(*UNLIMITED, "--p429", "0", "--p403", "0", "--slow", "1") as url:
        answer = httpx.get(f"{url}/api/property?id=7129300520", verify=trusted())
    assert answer.status_code == 200
    assert 0.3 <= answer.elapsed.total_seconds() < 5


def test_a_client_with_a_rule_never_gets_its_zips(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(
        json.dumps(
            {
                "127.0.0.14": {"fail_zipcodes": ["98103"]},
                "127.0.0.15": {"fail_fraction": 0.4},
            }
        )
    )
    zipcodes = [f"98{n:03}" for n in range(200)]
    with portal(*CALM, "--client-rules", str(rules)) as url:
        with from_address(url, "127.0.0.14") as partial:
            for _ in range(3):
                assert partial.get("/api/search?zip=98103").status_code == 403
            assert partial.get("/api/search?zip=98105").status_code == 200
            assert partial.get("/api/property?id=7129300520").status_code == 200
        with from_address(url, "127.0.0.15") as partial:
            refused = [
                z for z in zipcodes if partial.get(f"/api/search?zip={z}").status_code == 403
            ]
            again = [z for z in zipcodes if partial.get(f"/api/search?zip={z}").status_code == 403]
        with from_address(url, "127.0.0.16") as lucky:
            assert lucky.get(f"/api/search?zip={refused[0]}").status_code == 200
    assert refused == again
    assert 50 <= len(refused) <= 110


def test_answering_does_not_swell_it() -> None:
    with portal(*CALM) as url:
        port = int(url.rsplit(":", 1)[1])
        (process,) = [
            child
            for child in psutil.Process().children()
            if any(c.laddr.port == port for c in child.net_connections() if c.status == "LISTEN")
        ]
        with from_address(url, "127.0.0.1") as client:
            client.get("/api/search?zip=98103").raise_for_status()
            before = process.memory_info().rss
            for page in range(300):
                client.get(f"/api/search?zip=98103&page={page % 15 + 1}").raise_for_status()
        assert process.memory_info().rss < before + 30_000_000
