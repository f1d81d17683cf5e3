"""How each service is started: its module, and its settings as environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sn46
from sn46.localnet.caddyservice import caddy_spec
from sn46.localnet.datadir import DataDir, NetworkFile
from sn46.localnet.options import LocalnetOptions
from sn46.localnet.people import NETUID, Miner, People, Person
from sn46.localnet.ports import HOST, own_address
from sn46.localnet.postgresservice import Postgres
from sn46.localnet.service import ProcessSpec
from sn46.localnet.valkeyservice import Valkey
from sn46.mechanism.canonical import hmac_hex
from sn46.mechanism.times import format_time
from sn46.store.s3 import RESULTS_BUCKET, S3Access

_FIRST_SALE = datetime(2014, 1, 1, tzinfo=UTC)
"""No sale of the portal's is older."""

_LONGEST_RUN_DAYS = 366
"""The oldest sale stays within what is looked back on for as long as a network may run."""

_GRACE_PERCENT = 75
"""Of an epoch of a minute or two, since all of its miners share one machine."""

_MINERS, _VALIDATORS = 1, 2
"""Groups of loopback addresses."""

# What a process needs of its user's environment to run at all. Nothing else is passed on: settings
# of a real miner or validator, exported or in a .env, must not reach the local network.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE",
    "SYSTEMROOT", "VIRTUAL_ENV",
)  # fmt: skip

_LIMITS = {
    # Epochs are short here, and restarts are part of the show.
    "LIMIT_CURRENT": "600/minute",
    "LIMIT_EPOCH": "600/minute",
    "LIMIT_STATUS": "600/minute",
    "LIMIT_CREDENTIALS": "600/minute",
    "LIMIT_READ": "6000/minute",
    "LIMIT_HISTORY": "6000/minute",
    "LIMIT_RESULTS": "600/minute",
    "LIMIT_ADDRESS": "6000/minute",
}


@dataclass(frozen=True)
class Plan:
    """A network's services, ready to be started."""

    options: LocalnetOptions
    data: DataDir
    people: People
    network: NetworkFile

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.network.ports['api']}"

    @property
    def portal_url(self) -> str:
        return f"http://{HOST}:{self.network.ports['portal']}"

    @property
    def chain_endpoint(self) -> str:
        return f"local:{self.data.chain}"

    @property
    def apis(self) -> tuple[str, ...]:
        """The names of the API servers."""
        return api_names(self.options.replicas)

    @property
    def is_replicated(self) -> bool:
        return self.options.replicas > 1

    @property
    def infrastructure(self) -> tuple[str, ...]:
        """The services besides miners and validators, in the order in which they start."""
        shown = ("dashboard",) if self.options.dashboard else ()
        if not self.is_replicated:
            return ("s3", "api", "portal", *shown)
        return ("s3", "postgres", "valkey", *self.apis, "caddy", "portal", *shown)

    def address(self, name: str) -> str:
        """HOST:PORT of a service."""
        return f"{HOST}:{self.network.ports[name]}"

    def addresses(self) -> str:
        """What a person needs to ask this network something, in a sentence."""
        return (
            f"The API answers at {self.api_url} and signs as {self.people.owner.hotkey}; the "
            f"portal answers at {self.portal_url}"
        )

    @property
    def dashboard_url(self) -> str:
        return f"http://{self.address('dashboard')}"

    def client_rules(self) -> dict[str, dict[str, float]]:
        """What the portal is to refuse to whom."""
        return {
            address: {"fail_fraction": miner.spec.failing_share}
            for miner in self.people.miners
            if miner.spec.failing_share and (address := own_address(_MINERS, miner.number))
        }

    def portal(self, rules: Path) -> ProcessSpec:
        arguments = (
            "--host", HOST, "--port", str(self.network.ports["portal"]),
            "--seed", self.network.seed, "--client-rules", str(rules),
        )  # fmt: skip
        return self._spec("portal", "sn46.localnet.portal", arguments, {})

    def postgres(self) -> Postgres:
        return Postgres(
            folder=self.data.of("postgres"),
            port=self.network.ports["postgres"],
            password=self._password("postgres"),
            log=self.data.logs / "postgres.log",
        )

    def valkey(self) -> Valkey:
        return Valkey(
            folder=self.data.of("valkey"),
            port=self.network.ports["valkey"],
            password=self._password("valkey"),
            log=self.data.logs / "valkey.log",
        )

    def caddy(self) -> ProcessSpec:
        return caddy_spec(
            self.data.of("caddy"),
            self.network.ports["api"],
            [self.address(name) for name in self.apis],
            base_environment(),
            self.data.logs / "caddy.log",
        )

    def api(self, name: str, s3: S3Access, genesis: datetime) -> ProcessSpec:
        """One of the API servers, whose first epoch starts at ``genesis``."""
        options = self.options
        settings = {
            **_LIMITS,
            **self._wallet(self.people.owner),
            "EPOCH_SECONDS": str(self.network.epoch_seconds),
            "EPOCH_GENESIS": format_time(genesis),
            "TARGET_LISTINGS": str(options.target_listings),
            "MIN_ZIPCODE_LISTINGS": "50",
            "COOLDOWN_HOURS": "0",
            "ELIGIBLE_STATES": "WA",
            "MAX_STATE_SHARE": "100",
            "MAX_REGION_SHARE": "100",
            "LOOKBACK_DAYS": str((genesis - _FIRST_SALE).days + _LONGEST_RUN_DAYS),
            "GRACE_PERCENT": str(_GRACE_PERCENT),
            "SECRET_KEY": self.network.secret_key,
            "METAGRAPH_REFRESH_SECONDS": "5",
            # One machine, one clock, one store: nothing is on its way for long.
            "SNAPSHOT_SETTLE_SECONDS": "2",
            "HOST": HOST,
            "PORT": str(self.network.ports[name]),
            **self._shared(),
            "CHAIN_ENDPOINT": self.chain_endpoint,
            "NETUID": str(NETUID),
            "S3_ENDPOINT_URL": s3.endpoint,
            "S3_REGION": s3.region,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
            "ZIPCODE_TABLE": str(self.data.zipcodes),
        }
        return self._spec(name, "sn46", ("api",), settings)

    def dashboard(self, s3: S3Access) -> ProcessSpec:
        settings = {
            "API_URL": self.api_url,
            "API_HOTKEY": self.people.owner.hotkey,
            "DASHBOARD_HOST": HOST,
            "DASHBOARD_PORT": str(self.network.ports["dashboard"]),
            # Epochs are short here, and the API is ours.
            "DASHBOARD_REFRESH_SECONDS": "2",
            "DASHBOARD_REQUESTS_A_MINUTE": "600",
            "ALERT_STALE_SECONDS": "20",
            "ALERT_UNREACHABLE_SECONDS": "5",
            "VALIDATED_BUCKET": RESULTS_BUCKET,
            "S3_ENDPOINT_URL": s3.endpoint,
            "S3_REGION": s3.region,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
        }
        return self._spec("dashboard", "sn46", ("dashboard",), settings)

    def _shared(self) -> dict[str, str]:
        """Where API servers keep what they know."""
        if not self.is_replicated:
            return {"DATABASE_URL": f"sqlite+aiosqlite:///{self.data.of('api') / 'api.db'}"}
        return {
            "DATABASE_URL": self.postgres().url,
            "LIMITS_STORAGE": self.valkey().url,
            # Caddy is on this machine, and says whom it speaks for.
            "TRUSTED_PROXIES": f"{HOST}/32",
        }

    def _password(self, service: str) -> str:
        return hmac_hex(self.network.secret_key.encode(), f"sn46 local network, {service}")

    def validator(self, person: Person) -> ProcessSpec:
        number = self.people.validators.index(person) + 1
        settings = {
            **self._client(person),
            **_from_address(_VALIDATORS, number),
            "RELAY_HOST": HOST,
            "RELAY_PORT": str(self.network.ports[relay_names(number)[-1]]),
            # Half an epoch is short here, and the portal is ours.
            "REQUESTS_PER_SECOND": "40",
        }
        return self._spec(person.name, "sn46", ("validator",), settings)

    def miner(self, miner: Miner) -> ProcessSpec:
        settings = {
            **self._client(miner),
            **_from_address(_MINERS, miner.number),
            **miner.spec.environment,
        }
        return self._spec(miner.name, miner.spec.module, miner.spec.arguments, settings)

    def status_file(self, name: str) -> Path:
        return self.data.status / f"{name}.json"

    def _client(self, person: Person) -> dict[str, str]:
        """What miners and validators are told alike."""
        return {
            **self._wallet(person),
            "API_URL": self.api_url,
            "API_HOTKEY": self.people.owner.hotkey,
            "CHAIN_ENDPOINT": self.chain_endpoint,
            "NETUID": str(NETUID),
            "SOURCES": f"portal:{self.portal_url}",
            "DATA_DIR": str(self.data.of(person.name)),
            "STATUS_FILE": str(self.status_file(person.name)),
        }

    def _wallet(self, person: Person) -> dict[str, str]:
        return {
            "WALLET_NAME": person.wallet_name,
            "WALLET_HOTKEY": person.wallet_hotkey,
            "WALLET_PATH": str(self.data.wallets),
        }

    def _spec(
        self, name: str, module: str, arguments: tuple[str, ...], settings: Mapping[str, str]
    ) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            program=module,
            arguments=arguments,
            environment={**base_environment(), **settings},
            # A folder without a .env: settings come from here alone.
            folder=self.data.of(name),
            log=self.data.logs / f"{name}.log",
        )


def api_names(count: int) -> tuple[str, ...]:
    """The names of so many API servers."""
    return ("api",) if count == 1 else tuple(f"api-{n}" for n in range(1, count + 1))


def relay_names(validators: int) -> tuple[str, ...]:
    """The names of so many validators' relays, in the validators' order."""
    return tuple(f"relay-{n}" for n in range(1, validators + 1))


def _from_address(group: int, number: int) -> dict[str, str]:
    """Everyone asks the portal from an own address, as on the Internet: it counts by address."""
    address = own_address(group, number)
    return {"SOURCE_ADDRESS": address} if address else {}


def base_environment() -> dict[str, str]:
    """What every service gets."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    package_root = str(Path(sn46.__file__).parent.parent)
    return {
        **passed,
        "PYTHONPATH": package_root,
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        # Many small processes share few cores: thread pools in each only stand in the way.
        "POLARS_MAX_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "TOKIO_WORKER_THREADS": "2",
    }
