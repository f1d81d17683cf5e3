"""What a database that fails lets anyone know: that it fails, and nothing of what it was given."""

import pytest
from apinet import World, api_over
from sqlalchemy import text

from sn46.api.database import Database, DatabaseError, reason_of
from sn46.api.services import Services
from sn46.mechanism.assignment import selection_seed

FULL = {
    "sqlite": ("CREATE TRIGGER no BEFORE INSERT ON epochs BEGIN SELECT RAISE(ABORT, 'full'); END",),
    "postgresql": (
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100', DETAIL = NEW.seed; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON epochs FOR EACH ROW EXECUTE FUNCTION no()",
    ),
}


async def fill(services: Services) -> None:
    """Let every epoch be refused, as a full disk does."""
    async with services.database.write() as connection:
        for statement in FULL["sqlite" if services.database.is_sqlite else "postgresql"]:
            await connection.execute(text(statement))


async def test_a_draw_that_cannot_be_kept_is_shown_without_its_seed(
    world: World, database_url: str
) -> None:
    async with api_over(world, database_url=database_url) as net:
        await net.ready()
        await fill(net.services)
        coming = net.epoch.next()
        net.clock.advance_to(coming.draw_at)

        async def failed() -> bool:
            return net.services.scheduler.last_error is not None

        await net.until(failed)
        told = [
            (await net.http.get(path)).text
            for path in ("/readyz", "/api/v1/zipcode-assignments/stats")
        ]
        seed = selection_seed(net.services.settings.secret, coming.id)
    for answer in told:
        assert "the server's log says why" in answer
        assert "full" not in answer
        assert seed not in answer


def test_a_reason_is_one_line_even_where_there_is_none() -> None:
    # What asyncpg raises where PostgreSQL's machine does not answer.
    assert reason_of(TimeoutError()) == "TimeoutError"
    assert reason_of(OSError("one\ntwo")) == "one"


def test_an_address_without_a_port_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseError) as refused:
        Database("postgresql+asyncpg://sn46:p@ss:w0rd@db/sn46")
    assert "DATABASE_URL" in str(refused.value)
    assert "w0rd" not in str(refused.value)
    assert refused.value.__cause__ is None
