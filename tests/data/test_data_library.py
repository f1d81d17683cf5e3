"""Which of the published reports counts, what is refused, and what is kept of it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from mechanism.builders import hotkey
from publishing import (
    VALIDATORS,
    WINNERS,
    Publications,
    epoch_ids,
    home,
    kept_of,
    parquet,
    report,
    rows_frame,
    some_epochs,
)

from sn46.data.decoder import Decoder
from sn46.data.library import Library
from sn46.data.objects import FolderOrigin, Origin, Published
from sn46.mechanism.report import data_key, report_key
from sn46.store.base import StoreError

pytestmark = pytest.mark.asyncio(loop_scope="session")

EPOCH = epoch_ids(1)[0]
ROWS = rows_frame(EPOCH, map(home, range(1, 11)))


async def test_all_agree(tmp_path: Path, cache: Path, decoder: Decoder) -> None:
    (kept,) = await kept_of(some_epochs(1), tmp_path / "export", cache, decoder)
    assert (kept.epoch_id, kept.rows, kept.zipcodes) == (EPOCH, 20, 1)
    assert set(kept.agreeing) == {hotkey(v) for v in VALIDATORS}
    assert kept.differing == {}
    assert kept.winners == WINNERS


async def test_most_decide_and_the_others_are_named(
    tmp_path: Path, cache: Path, decoder: Decoder
) -> None:
    made = Publications()
    made.all_agree(EPOCH, ROWS, ("vali", "other", "third"))
    other_scores = report("liar", EPOCH, 10, best=1_000_000)
    made.put("liar", EPOCH, ROWS.with_columns(sale_price=pl.col("sale_price") * 2), other_scores)
    # Of those with the right scores, one publishes other rows, and one cuts them short.
    made.put("bent", EPOCH, ROWS.with_columns(sale_price=pl.col("sale_price") + 1))
    made.put("short", EPOCH, ROWS.head(9), report("short", EPOCH, 10))
    # Rows in another order, in another form of the file, are the same rows.
    made.put("shuffled", EPOCH, parquet(ROWS.reverse(), compression="uncompressed"),
             report("shuffled", EPOCH, 10))  # fmt: skip
    (kept,) = await kept_of(made, tmp_path / "export", cache, decoder)
    assert set(kept.agreeing) == {hotkey(v) for v in ("vali", "other", "third", "shuffled")}
    said = {name: kept.differing[hotkey(name)] for name in ("liar", "bent", "short")}
    assert said["liar"].startswith("other scores or weights: consensus_hash ")
    assert said["bent"] == "the same scores and weights, but other rows"
    assert said["short"] == "its rows are refused: 9 rows are published, the report says 10"
    assert kept.rows == 10


async def test_who_is_trusted_alone_decides(tmp_path: Path, cache: Path, decoder: Decoder) -> None:
    made = Publications()
    made.all_agree(EPOCH, ROWS, ("bad", "worse", "worst"))
    made.put("vali", EPOCH, ROWS.head(3), best=800_000)
    (kept,) = await kept_of(made, tmp_path / "e", cache, decoder)
    assert kept.rows == 10
    (kept,) = await kept_of(made, tmp_path / "e", cache, decoder, (hotkey("vali"),))
    assert (kept.rows, kept.agreeing, kept.differing) == (3, (hotkey("vali"),), {})


def _with(**changes: object) -> pl.DataFrame:
    """The rows, one of them changed."""
    first = ROWS.with_row_index().with_columns(
        **{
            name: pl.when(pl.col("index") == 0)
            .then(pl.lit(value, dtype=ROWS.schema[name]))
            .otherwise(pl.col(name))
            for name, value in changes.items()
        }
    )
    return first.drop("index")


BOMB = ROWS.with_columns(address=pl.lit("A" * 2_000_000))
HOSTILE_ROWS: dict[str, tuple[pl.DataFrame | bytes, str]] = {
    "no_parquet": (b"PAR1" + b"\x00" * 100 + b"PAR1", "refused"),
    "empty": (b"", "refused"),
    "cut": (parquet(ROWS)[:-9], "refused"),
    "other_columns": (parquet(ROWS.drop("rank")), "refused"),
    "other_types": (parquet(ROWS.with_columns(zipcode=pl.lit(15213))), "refused"),
    "bomb": (parquet(BOMB), "refused"),
    "other_epoch": (_with(epoch_id="2026-01-05-04:00"), "of another epoch (1 rows)"),
    "no_winner": (_with(miner_hotkey=hotkey("eve")), "of no winner, or has another rank (1 rows)"),
    "other_rank": (_with(rank=3), "of no winner, or has another rank (1 rows)"),
    "null": (_with(address=None), "a required field is null (1 rows)"),
    "zip": (_with(zipcode="1521"), "a ZIP has not five digits (1 rows)"),
    "zip_digits": (_with(zipcode="١٥٢١٣"), "a ZIP has not five digits (1 rows)"),
    "price": (_with(sale_price=10**12), "a price is out of range (1 rows)"),
    "type": (_with(property_type="CASTLE"), "a property type is none (1 rows)"),
    "year": (_with(sale_date=3_000_000), "in no year from 1 to 9999 (1 rows)"),
    "unconfirmed": (_with(confirmations=0), "confirmed by nobody (1 rows)"),
    "twice": (_with(listing_id="portal:2"), "the same listing_id"),
    "twice_by_address": (_with(address="2 Forbes Ave."), "the same address_key and zipcode"),
}  # fmt: skip

GOOD = report("x", EPOCH, 10)
HOSTILE_REPORTS: dict[str, bytes] = {
    "no_json": b"\xff{",
    "deep": b"[" * 100_000,
    "list": b"[]",
    "empty": b"{}",
    "other_epoch": json.dumps(GOOD | {"epoch_id": "2026-01-05-04:00"}).encode(),
    "other_validator": json.dumps(GOOD | {"validator_hotkey": hotkey("vali")}).encode(),
    "wrong_hash": json.dumps(GOOD | {"consensus_hash": "0" * 64}).encode(),
    "other_weights": json.dumps(GOOD | {"weights": {hotkey("x"): 1_000_000}}).encode(),
    "no_count": json.dumps(
        GOOD | {"validation_summary": {"total_listings_validated": 10.0}}
    ).encode(),
    "nan": json.dumps(GOOD | {"miners": {hotkey("x"): {"final": float("nan")}}}).encode(),
    "odd_miners": json.dumps(GOOD | {"miners": [1, 2]}).encode(),
    "huge_number": b'{"epoch_id": ' + b"9" * 100_000 + b"}",
    "half_a_sign": json.dumps(GOOD | {"top_3_winners": [{"miner_hotkey": "\ud83c"}]}).encode(),
    "odd_winners": json.dumps(GOOD | {"top_3_winners": "abc"}).encode(),
}


async def test_hostile_files_cost_only_who_published_them(
    tmp_path: Path, cache: Path, decoder: Decoder
) -> None:
    made = Publications()
    made.all_agree(EPOCH, ROWS, ("vali",))
    for name, (rows, _) in HOSTILE_ROWS.items():
        made.put(name, EPOCH, rows, report(name, EPOCH, 10))
    for name, body in HOSTILE_REPORTS.items():
        mine = body.replace(hotkey("x").encode(), hotkey(f"r {name}").encode())
        made.put(f"r {name}", EPOCH, ROWS, mine)
    made.bodies[data_key(hotkey("silent"), EPOCH)] = b"x"
    made.put("rowless", EPOCH, None, report("rowless", EPOCH, 10))
    (kept,) = await kept_of(made, tmp_path / "export", cache, decoder)
    assert kept.agreeing == (hotkey("vali"),)
    assert kept.rows == 10
    for name, (_, why) in HOSTILE_ROWS.items():
        assert why in kept.differing[hotkey(name)], name
    for name in HOSTILE_REPORTS:
        assert hotkey(f"r {name}") in kept.differing, name
    assert kept.differing[hotkey("silent")] == "no report is published beside the rows"
    assert kept.differing[hotkey("rowless")] == "no rows are published beside the report"
    assert len(kept.differing) == len(HOSTILE_ROWS) + len(HOSTILE_REPORTS) + 2


async def test_odd_keys_are_not_there(tmp_path: Path, cache: Path, decoder: Decoder) -> None:
    made = some_epochs(1)
    body = made.bodies[report_key(hotkey("vali"), EPOCH)]
    for key in (
        f"validators/nobody/epoch={EPOCH}/validation_report.json",
        f"validators/{hotkey('vali')}/epoch=2026-01-05-25:00/validation_report.json",
        f"validators/{hotkey('vali')}/epoch=2026-01-05T00-00-00/validation_report.json",
        f"validators/{hotkey('vali')}/epoch={EPOCH}/deeper/validation_report.json",
        f"validators/{hotkey('vali')}/epoch={EPOCH}/evidence/spot_checks.parquet",
        f"validators/{hotkey('vali')}/epoch=../../x/validation_report.json",
    ):
        made.bodies[key] = body
    (kept,) = await kept_of(made, tmp_path / "export", cache, decoder)
    assert len(kept.agreeing) == 3
    assert kept.differing == {}


async def test_an_epoch_without_winners_or_without_any_sound_report(
    tmp_path: Path, cache: Path, decoder: Decoder
) -> None:
    first, second = epoch_ids(2)
    made = Publications()
    made.put("vali", first, rows_frame(first, []), report("vali", first, 0, winners=()))
    made.put("vali", second, b"?", b"?")
    none, broken = await kept_of(made, tmp_path / "export", cache, decoder)
    assert (none.rows, none.file is None, none.agreeing) == (0, False, (hotkey("vali"),))
    assert (broken.rows, broken.file, broken.consensus_hash) == (0, None, None)


class Counted:
    """An origin that tells what is read, and can break off."""

    def __init__(self, origin: Origin, most: int = 10**9) -> None:
        self._origin, self._most = origin, most
        self.name, self.removes_old = origin.name, origin.removes_old
        self.read_keys: list[str] = []

    async def published(self) -> list[Published]:
        return list(await self._origin.published())

    async def read(self, published: Published) -> bytes:
        if len(self.read_keys) >= self._most:
            raise StoreError("The store is away. Try again later.")
        self.read_keys.append(published.key)
        return await self._origin.read(published)


async def test_what_was_read_is_not_read_again(
    tmp_path: Path, cache: Path, decoder: Decoder
) -> None:
    made = some_epochs(8)
    folder = await made.export(tmp_path / "export")
    progress: list[tuple[int, int]] = []
    broken = Counted(FolderOrigin(folder), most=40)
    library = Library(cache, broken.name)
    with pytest.raises(StoreError, match="away"):
        await library.refresh(broken, decoder, lambda *seen: progress.append(seen))
    before = library.kept()
    assert 0 < len(before) < 8
    whole = Counted(FolderOrigin(folder))
    assert len(await library.refresh(whole, decoder, lambda *seen: progress.append(seen))) == 8
    assert len(whole.read_keys) == 6 * (8 - len(before))
    assert progress[-1] == (8 - len(before), 8 - len(before))
    again = Counted(FolderOrigin(folder))
    await library.refresh(again, decoder, lambda *seen: None)
    assert again.read_keys == []
    # A report that comes late makes its epoch be read again, and no other.
    made.put("late", epoch_ids(8)[3], rows_frame(epoch_ids(8)[3], []), b"?")
    late = Counted(FolderOrigin(await made.export(folder)))
    kept = await library.refresh(late, decoder, lambda *seen: None)
    assert {key.split("/")[2] for key in late.read_keys} == {f"epoch={epoch_ids(8)[3]}"}
    assert hotkey("late") in kept[3].differing


async def test_what_a_store_removes_stays_and_what_a_folder_lacks_does_not(
    tmp_path: Path, cache: Path, decoder: Decoder
) -> None:
    made = some_epochs(3)
    origin = Counted(FolderOrigin(await made.export(tmp_path / "export")))
    origin.removes_old = True
    library = Library(cache, origin.name)
    await library.refresh(origin, decoder, lambda done, of: None)
    for key in [k for k in made.bodies if f"epoch={EPOCH}" in k][:-1]:
        del made.bodies[key]
    gone = epoch_ids(2)[1]
    for key in [k for k in made.bodies if f"epoch={gone}" in k]:
        del made.bodies[key]
    later = Counted(FolderOrigin(await made.export(tmp_path / "later")))
    later.removes_old = True
    kept = await library.refresh(later, decoder, lambda done, of: None)
    assert [len(epoch.agreeing) for epoch in kept] == [3, 3, 3]
    assert later.read_keys == []
    later.removes_old = False
    kept = await library.refresh(later, decoder, lambda done, of: None)
    assert [len(epoch.agreeing) for epoch in kept] == [0, 3]
    assert len(list(library.observations.iterdir())) == 1


async def test_a_damaged_cache_is_mended(tmp_path: Path, cache: Path, decoder: Decoder) -> None:
    made = some_epochs(3)
    first = await kept_of(made, tmp_path / "export", cache, decoder)
    library = Library(cache, FolderOrigin(tmp_path / "export").name)
    files = library.files(first)
    files[0].write_bytes(files[0].read_bytes()[:-1])
    (library.path / "epochs" / f"{epoch_ids(3)[1].replace(':', '-')}.json").write_text("{")
    (library.path / "epochs" / f"{epoch_ids(3)[2].replace(':', '-')}.json").write_text("[]")
    assert library.kept() == []
    assert await kept_of(made, tmp_path / "export", cache, decoder) == first
    assert [pl.read_parquet(file).height for file in files] == [20, 20, 20]


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import sn46.data.library as library
from sn46.data.decoder import Decoder
from sn46.data.objects import FolderOrigin

left = int(sys.argv[3])
real = os.replace, os.fsync

def counted(call):
    def counting(*arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return counting

os.replace, os.fsync = map(counted, real)

async def read():
    origin = FolderOrigin(Path(sys.argv[1]))
    kept = library.Library(Path(sys.argv[2]), origin.name)
    await kept.refresh(origin, Decoder(), lambda done, of: None)

if __name__ == "__main__":
    asyncio.run(read())
"""


async def test_killed_at_any_moment_nothing_is_half_there(
    tmp_path: Path, cache: Path, decoder: Decoder
) -> None:
    made = some_epochs(3)
    folder = await made.export(tmp_path / "export")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    names = set(epoch_ids(3))
    # Each write syncs, renames and syncs the folder: twice for each of the three epochs.
    for moment in (1, 5, 8, 12, 19):
        process = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, str(script), str(folder), str(cache), str(moment)],
            env=dict(os.environ),
            timeout=60,
        )
        assert process.returncode in (-signal.SIGKILL, 0)
        kept = Library(cache, FolderOrigin(folder).name).kept()
        assert {epoch.epoch_id for epoch in kept} <= names
        for file in Library(cache, FolderOrigin(folder).name).files(kept):
            assert pl.read_parquet(file).height == 20
    assert len(await kept_of(made, folder, cache, decoder)) == 3
    library = Library(cache, FolderOrigin(folder).name)
    assert list(library.parts.iterdir()) == []
    assert len(list(library.observations.iterdir())) == 3
