"""All that the routes work with, put together once."""

from dataclasses import dataclass, field
from datetime import timedelta

from starlette.requests import Request

from sn46.api.audit import Audit
from sn46.api.database import Database
from sn46.api.drawing import Drawer
from sn46.api.drawrecords import DrawRecords
from sn46.api.identity import AddressReader, Authenticator, BtauthWay, FieldWay, HeaderWay, Identity
from sn46.api.limiting import Limiter
from sn46.api.metrics import Metrics
from sn46.api.reading import Reader
from sn46.api.records import Origin, Records
from sn46.api.retention import Retention
from sn46.api.schedule import Epochs, Scheduler
from sn46.api.settings import ApiSettings
from sn46.api.tables import TableFile
from sn46.api.trail import Trail
from sn46.chain.base import Chain
from sn46.client.metagraph import Metagraph
from sn46.clock import Clock
from sn46.mechanism.signing import Signer
from sn46.store.base import Bucket
from sn46.store.s3 import S3Access


@dataclass(frozen=True)
class Outside:
    """What the server is given: time, chain, its own hotkey, and the two buckets."""

    clock: Clock
    chain: Chain
    signer: Signer
    miners: Bucket
    results: Bucket


@dataclass(frozen=True)
class Services:
    """The server's parts, wired to each other."""

    settings: ApiSettings
    outside: Outside
    database: Database
    records: Records = field(init=False)
    past_draws: DrawRecords = field(init=False)
    limiter: Limiter = field(init=False)
    metagraph: Metagraph = field(init=False)
    address_of: AddressReader = field(init=False)
    authenticator: Authenticator = field(init=False)
    epochs: Epochs = field(init=False)
    scheduler: Scheduler = field(init=False)
    table: TableFile = field(init=False)
    reader: Reader = field(init=False)
    retention: Retention = field(init=False)
    trail: Trail = field(init=False)
    audit: Audit = field(init=False)
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        settings, outside = self.settings, self.outside
        clock, signer = outside.clock, outside.signer
        records = Records(self.database)
        trail = Trail(self.database)
        limiter = Limiter(settings.limits_storage)
        metagraph = Metagraph(
            outside.chain,
            clock,
            max_age=timedelta(seconds=settings.metagraph_max_age_seconds),
            refresh_every=timedelta(seconds=settings.metagraph_refresh),
        )
        address_of = AddressReader(settings.trusted_proxies)
        ways = (
            BtauthWay(
                clock,
                limiter,
                signer.ss58_address,
                max_age=settings.btauth_max_age_seconds,
                skew=settings.btauth_skew_seconds,
            ),
            HeaderWay(clock),
            FieldWay(clock),
        )
        epochs = Epochs(records, settings, signer, clock)
        table = TableFile(settings.zipcode_table)
        past_draws = DrawRecords(self.database)
        drawer = Drawer(records, past_draws, table, settings, signer, clock)
        parts = {
            "records": records,
            "past_draws": past_draws,
            "limiter": limiter,
            "metagraph": metagraph,
            "address_of": address_of,
            "authenticator": Authenticator(ways, metagraph, limiter, settings, address_of),
            "epochs": epochs,
            "scheduler": Scheduler(epochs, drawer, records, metagraph, settings, clock),
            "table": table,
            "reader": Reader(outside.miners, outside.results, records, settings, clock),
            "retention": Retention(self.database, settings, clock),
            "trail": trail,
            "audit": Audit(trail, clock, epochs.at),
            "metrics": Metrics(),
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)


def store_access(settings: ApiSettings) -> S3Access:
    """The store as its owner reaches it.

    Raises:
        StoreError: where the settings are not usable.
    """
    return S3Access(
        endpoint=settings.s3_endpoint_url or "",
        region=settings.s3_region,
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
    )


def make_services(settings: ApiSettings, outside: Outside) -> Services:
    """The server's parts over what it is given.

    Raises:
        DatabaseError: where DATABASE_URL is not usable.
        ConfigurationError: where LIMITS_STORAGE needs a library that is not installed.
        ValueError: where TRUSTED_PROXIES names no network.
    """
    return Services(settings, outside, Database(settings.database_url))


def services_of(request: Request) -> Services:
    """The services of the application that a request came to."""
    return request.scope["app"].state.services


def origin_of(request: Request, caller: Identity) -> Origin:
    """What is kept of a request beside what it brought about."""
    address = services_of(request).address_of(request.scope)
    return Origin(request.state.request_id, address, caller.way)
