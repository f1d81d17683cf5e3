"""Quick validation of one submission: a pure function of assignment and frozen uploads
(mechanism 6). Nothing that a submission holds makes it raise: every fault is a reason."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, reduce
from operator import xor
from typing import Final, TypeVar

import numpy as np
import polars as pl

from sn46.mechanism.addresscolumn import normalize_column
from sn46.mechanism.assignment import AssignedZip, Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import SubmissionError
from sn46.mechanism.listings import (
    COLUMNS,
    OPTIONAL,
    PROPERTY_TYPES,
    REQUIRED,
    SCHEMA,
    empty_listings,
)
from sn46.mechanism.names import PPM, Hotkey, Ppm, ZipCode
from sn46.mechanism.parquetfile import (
    Decoded,
    FileSchemaFault,
    FileSizeFault,
    Limits,
    decode_all,
)
from sn46.mechanism.parquetfooter import MAX_PAGES
from sn46.mechanism.reasons import Code, Reason
from sn46.mechanism.signing import verify_document
from sn46.mechanism.submission import (
    EPOCH_METADATA,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    NONCE_METADATA,
    Manifest,
    ManifestFile,
    ObjectInfo,
    load_document,
    miner_file_key,
    parse_manifest,
)
from sn46.mechanism.times import format_time

DUPLICATE_PERCENT: Final = 1
OUT_OF_RANGE_PERCENT: Final = 5
MIN_PRICE: Final = 1_000
MAX_PRICE: Final = 100_000_000
MAX_BEDROOMS: Final = 50
MAX_TEXT_BYTES: Final = 2_048
"""No text of a home is near this. What a check says of a row repeats some of its texts: were they
of any length, a miner could make every validator's evidence and report too large to be read
(docs/decisions/0067)."""
MAX_CENTROID_KM: Final = 50.0
SURELY_NEAR_DEGREES: Final = 0.3
EARTH_RADIUS_KM: Final = 6371.0088
_HALF_RADIANS: Final = math.pi / 360
_SINE_TERMS: Final = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(11))
_Real = TypeVar("_Real", float, pl.Expr)
MAX_ROWS_FLOOR: Final = 10_000
MAX_ROWS_FACTOR: Final = 10
"""A file may hold ten times what its ZIP is expected to have, and always 10,000 rows: the limit
scales with the assignment, so that a big honest miner never meets it."""

# Limits of all files of a submission together, a floor and what is added with the assignment.
STORED_FLOOR: Final = 16 * 1024 * 1024
STORED_BYTES_PER_LISTING: Final = 4 * 1024
DECODED_FLOOR: Final = 64 * 1024 * 1024
DECODED_BYTES_PER_LISTING: Final = 4 * 1024
FOOTERS_FLOOR: Final = 2 * 1024 * 1024
FOOTER_BYTES_PER_ZIP: Final = 32 * 1024
PAGES_PER_ZIP: Final = 512
_ADDRESSES_AT_ONCE: Final = 20_000

# What later steps need of every participant's rows; the rest is read again where it is needed.
KEPT_COLUMNS: Final = (
    "listing_id",
    "address_key",
    "zipcode",
    "sale_price",
    "living_area_sqft",
    "filled",
)


@dataclass(frozen=True)
class Upload:
    """A frozen object with its bytes."""

    info: ObjectInfo
    body: bytes


@dataclass(frozen=True)
class QuickResult:
    """What quick validation found. Counts and scores are None where their step was not reached.

    ``kept`` has KEPT_COLUMNS, one line a kept row, in order of key and row, ``filled`` being how
    many optional fields it has filled; it is empty for an invalid submission.
    """

    hotkey: Hotkey
    submission_time: datetime | None
    rows: int | None
    duplicates: int | None
    out_of_range: int | None
    zipcodes: int | None
    completeness: Ppm | None
    volume: Ppm | None
    participant: bool
    reasons: tuple[Reason, ...]
    kept: pl.DataFrame

    @property
    def valid(self) -> bool:
        return all(reason.code == Code.BELOW_MIN_VOLUME for reason in self.reasons)

    @property
    def rows_kept(self) -> int | None:
        if self.rows is None or self.duplicates is None or self.out_of_range is None:
            return None
        return self.rows - self.duplicates - self.out_of_range


_SHOWN: Final = 3


class _Reasons:
    """Collects reasons; the first few details of a code are kept, all are counted."""

    def __init__(self) -> None:
        self._found: dict[Code, tuple[int, list[str]]] = {}

    def add(self, code: Code, detail: str, count: int = 1) -> None:
        counted, details = self._found.get(code, (0, []))
        if len(details) < _SHOWN:
            details.append(detail)
        self._found[code] = (counted + count, details)

    def extend(self, others: "_Reasons") -> None:
        """Those of others behind these."""
        for code, (count, details) in others._found.items():
            counted, known = self._found.get(code, (0, []))
            self._found[code] = (counted + count, [*known, *details][:_SHOWN])

    def __bool__(self) -> bool:
        return bool(self._found)

    def result(self) -> tuple[Reason, ...]:
        return tuple(
            Reason(code, count, " ".join(details)) for code, (count, details) in self._found.items()
        )


def examine(
    assignment: Assignment,
    view: ChainView,
    hotkey: Hotkey,
    manifest: Upload | None,
    files: Mapping[str, Upload],
) -> QuickResult:
    """Judge one submission.

    Args:
        assignment: the epoch's assignment.
        view: the chain at the epoch's validation block.
        hotkey: whose folder it is.
        manifest: the frozen manifest.json, None where there is none.
        files: the frozen objects of the folder by key; only those the manifest names are read.
    """
    reasons = _Reasons()
    if not view.is_registered(hotkey):
        reasons.add(
            Code.HOTKEY_NOT_REGISTERED,
            f"The hotkey was not registered on subnet {view.netuid} at block {view.block.number}.",
        )
    parsed = _check_manifest(assignment, hotkey, manifest, reasons)
    time = manifest.info.last_modified if manifest else None
    if parsed is None or reasons:
        return unreached(hotkey, time, reasons.result())
    stored = [upload.info for upload in files.values()]
    if are_too_large(assignment, hotkey, stored):
        reasons.add(
            Code.FILE_TOO_LARGE,
            f"The files of the assigned ZIPs have over {most_stored_bytes(assignment)} bytes "
            "together; so many are allowed.",
        )
        return unreached(hotkey, time, reasons.result())
    frames = _read_files(assignment, hotkey, parsed, files, reasons)
    if reasons:
        return unreached(hotkey, time, reasons.result())
    rows = judge_rows(assignment, frames)
    _check_rows(rows, reasons)
    return _result(assignment, hotkey, time, rows, reasons)


def kept_listings(
    assignment: Assignment, hotkey: Hotkey, manifest: Upload, files: Mapping[str, Upload]
) -> pl.DataFrame:
    """The kept rows of a submission that ``examine`` found valid, with all columns of the
    listing schema and ``address_key``, in the order of ``QuickResult.kept``.

    Raises:
        SubmissionError: where the submission is not the valid one that it was.
    """
    reasons = _Reasons()
    parsed = _check_manifest(assignment, hotkey, manifest, reasons)
    frames = _read_files(assignment, hotkey, parsed, files, reasons) if parsed else []
    if reasons or parsed is None:
        raise SubmissionError(
            f"The submission of {hotkey} is no longer what it was when it was validated."
        )
    rows = judge_rows(assignment, frames)
    return rows.filter(pl.col("in_range") & ~pl.col("duplicate")).select(*COLUMNS, "address_key")


def unreached(hotkey: Hotkey, time: datetime | None, reasons: tuple[Reason, ...]) -> QuickResult:
    """An invalid submission whose rows were not looked at."""
    return QuickResult(
        hotkey=hotkey,
        submission_time=time,
        rows=None,
        duplicates=None,
        out_of_range=None,
        zipcodes=None,
        completeness=None,
        volume=None,
        participant=False,
        reasons=reasons,
        kept=no_kept_rows(),
    )


def no_kept_rows() -> pl.DataFrame:
    """An empty frame of KEPT_COLUMNS."""
    types = {**SCHEMA, "address_key": pl.String(), "filled": pl.UInt8()}
    return pl.DataFrame(schema={column: types[column] for column in KEPT_COLUMNS})


def _check_manifest(
    assignment: Assignment, hotkey: Hotkey, upload: Upload | None, reasons: _Reasons
) -> Manifest | None:
    epoch = assignment.epoch
    if upload is None:
        reasons.add(
            Code.MANIFEST_MISSING,
            f"No manifest.json was uploaded before the deadline {format_time(epoch.end)}. "
            "Uploads after it are refused by the store.",
        )
        return None
    if upload.info.last_modified > epoch.end:
        reasons.add(
            Code.LATE,
            f"The store received manifest.json at {format_time(upload.info.last_modified)}, after "
            f"the deadline {format_time(epoch.end)}.",
        )
    if upload.info.size > MAX_MANIFEST_BYTES:  # It was not fetched.
        reasons.add(
            Code.MANIFEST_SIGNATURE,
            f"manifest.json has {upload.info.size} bytes; {MAX_MANIFEST_BYTES} are allowed. So it "
            "carries no signature that holds.",
        )
        return None
    try:
        document = load_document(upload.body, "manifest.json")
        manifest = parse_manifest(document)
    except SubmissionError as error:
        reasons.add(Code.MANIFEST_SIGNATURE, f"{error} So it carries no signature that holds.")
        return None
    if not verify_document(document, hotkey):
        reasons.add(
            Code.MANIFEST_SIGNATURE,
            "The signature in manifest.json is missing or is not of this hotkey.",
        )
    if manifest.miner_hotkey != hotkey:
        reasons.add(
            Code.MANIFEST_SIGNATURE,
            f"manifest.json is of another hotkey ({manifest.miner_hotkey[:48]!r}).",
        )
    if manifest.epoch_id != epoch.id:
        reasons.add(
            Code.EPOCH_MISMATCH,
            f"manifest.json is for epoch {manifest.epoch_id[:32]!r}, this is {epoch.id}.",
        )
    if manifest.nonce != assignment.nonce:
        reasons.add(
            Code.NONCE_MISMATCH, "The nonce in manifest.json is not the nonce of this epoch."
        )
    _check_metadata(assignment, upload.info, "manifest.json", reasons)
    return manifest


def _check_metadata(assignment: Assignment, info: ObjectInfo, name: str, reasons: _Reasons) -> None:
    if info.metadata.get(NONCE_METADATA) != assignment.nonce:
        reasons.add(Code.NONCE_MISMATCH, f"{name} was not uploaded with the nonce of this epoch.")
    if info.metadata.get(EPOCH_METADATA) != assignment.epoch_id:
        reasons.add(
            Code.EPOCH_MISMATCH, f"{name} was not uploaded for epoch {assignment.epoch_id}."
        )


def _read_files(
    assignment: Assignment,
    hotkey: Hotkey,
    manifest: Manifest,
    files: Mapping[str, Upload],
    reasons: _Reasons,
) -> list[tuple[ZipCode, pl.DataFrame]]:
    """Every file of the manifest, decoded, in the order of keys."""
    assigned = {z.zipcode: z for z in assignment.zipcodes}
    named: list[_NamedFile] = []
    for entry in sorted(manifest.files, key=lambda f: f.key):
        file = _NamedFile(entry, _Reasons())
        named.append(file)
        zip_ = assigned.get(entry.zipcode)
        if zip_ is None:
            file.reasons.add(
                Code.WRONG_ZIPCODE,
                f"ZIP {entry.zipcode} is not assigned in this epoch.",
                max(1, entry.rows),
            )
            continue
        upload = _find_file(assignment, hotkey, entry, files, file.reasons)
        if upload is not None and _is_as_signed(entry, upload, file.reasons):
            file.body, file.most_rows = upload.body, most_rows(zip_)
    there = [(file.body, file.most_rows) for file in named if file.body is not None]
    try:
        decoded = iter(decode_all(there, submission_limits(assignment)))
    except FileSizeFault as fault:
        reasons.add(Code.FILE_TOO_LARGE, f"The submission is too large: {fault}.")
        return []
    frames: list[tuple[ZipCode, pl.DataFrame]] = []
    for file in named:
        frame = (
            _checked_frame(file.entry, next(decoded), file.reasons)
            if file.body is not None
            else None
        )
        if frame is not None:
            frames.append((file.entry.zipcode, frame))
        reasons.extend(file.reasons)
    return frames


@dataclass
class _NamedFile:
    """A file that the manifest names, and what is wrong with it; ``body`` where it is to be
    decoded."""

    entry: ManifestFile
    reasons: _Reasons
    body: bytes | None = None
    most_rows: int = 0


def _find_file(
    assignment: Assignment,
    hotkey: Hotkey,
    entry: ManifestFile,
    files: Mapping[str, Upload],
    reasons: _Reasons,
) -> Upload | None:
    name = _file_name(entry)
    upload = files.get(entry.key)
    if entry.key != miner_file_key(hotkey, assignment.epoch_id, entry.zipcode) or upload is None:
        reasons.add(
            Code.FILE_MISSING, f"{name} is named in manifest.json but does not stand in its place."
        )
        return None
    if upload.info.last_modified > assignment.epoch.end:
        reasons.add(
            Code.LATE,
            f"{name} reached the store at {format_time(upload.info.last_modified)}, after the "
            f"deadline {format_time(assignment.epoch.end)}.",
        )
        return None
    _check_metadata(assignment, upload.info, name, reasons)
    return upload


def most_rows(zip_: AssignedZip) -> int:
    """How many rows a file of this ZIP may hold."""
    return max(MAX_ROWS_FLOOR, MAX_ROWS_FACTOR * zip_.expected_listings)


def submission_limits(assignment: Assignment) -> Limits:
    """What the files of one submission may hold together (docs/decisions/0060)."""
    expected, zips = assignment.total_expected_listings, len(assignment.zipcodes)
    return Limits(
        rows=max(MAX_ROWS_FLOOR, MAX_ROWS_FACTOR * expected),
        pages=max(MAX_PAGES, PAGES_PER_ZIP * zips),
        footer_bytes=max(FOOTERS_FLOOR, FOOTER_BYTES_PER_ZIP * zips),
        decoded_bytes=max(DECODED_FLOOR, DECODED_BYTES_PER_LISTING * expected),
    )


def most_stored_bytes(assignment: Assignment) -> int:
    """How many bytes the files of one submission may have in the store together."""
    return max(STORED_FLOOR, STORED_BYTES_PER_LISTING * assignment.total_expected_listings)


def are_too_large(assignment: Assignment, hotkey: Hotkey, objects: Iterable[ObjectInfo]) -> bool:
    """Whether the objects in the places of assigned ZIPs are more than a submission may be. This
    needs no bytes of them, so what is too large is never fetched."""
    places = {miner_file_key(hotkey, assignment.epoch_id, z.zipcode) for z in assignment.zipcodes}
    stored = sum(info.size for info in objects if info.key in places)
    return stored > most_stored_bytes(assignment)


def _file_name(entry: ManifestFile) -> str:
    return f"zipcode={entry.zipcode}/listings.parquet"


def _is_as_signed(entry: ManifestFile, upload: Upload, reasons: _Reasons) -> bool:
    """Whether the bytes are those that the manifest was signed over, and not too many."""
    name = _file_name(entry)
    if max(len(upload.body), upload.info.size) > MAX_FILE_BYTES:
        reasons.add(Code.FILE_TOO_LARGE, f"{name} has {len(upload.body)} bytes.")
        return False
    if len(upload.body) != entry.bytes or sha256_hex(upload.body) != entry.sha256:
        reasons.add(
            Code.FILE_HASH_MISMATCH,
            f"{name} is not the file that manifest.json was signed over (SHA-256 or size differ).",
        )
        return False
    return True


def _checked_frame(entry: ManifestFile, decoded: Decoded, reasons: _Reasons) -> pl.DataFrame | None:
    name = _file_name(entry)
    if isinstance(decoded, FileSizeFault):
        reasons.add(Code.FILE_TOO_LARGE, f"{name}: {decoded}.")
        return None
    if isinstance(decoded, FileSchemaFault):
        reasons.add(Code.FILE_SCHEMA, f"{name}: {decoded}.")
        return None
    if decoded.height != entry.rows:
        reasons.add(
            Code.FILE_ROWS,
            f"{name} holds {decoded.height} rows; manifest.json says {entry.rows}.",
            abs(decoded.height - entry.rows),
        )
        return None
    return decoded


def judge_rows(
    assignment: Assignment, frames: Sequence[tuple[ZipCode, pl.DataFrame]]
) -> pl.DataFrame:
    """All rows of a submission, in order of key and row, each judged.

    Args:
        frames: (the folder's ZIP, rows in the listing schema), in the order of keys.

    Returns:
        The rows with ``folder``, ``address_key`` (normalised), and the booleans ``wrong_zip``,
        ``in_range`` and ``duplicate`` (only among rows in range).
    """
    rows = _with_places(assignment, frames)
    in_range = _in_range(assignment, rows)
    rows = rows.with_columns(
        _address_keys(rows["address"]),
        wrong_zip=(pl.col("zipcode") != pl.col("folder")).fill_null(value=False),
        in_range=in_range,
    )
    keys = rows.select("listing_id", "address_key", "zipcode")
    duplicates = _repeated(keys if in_range.all() else keys.filter(in_range))
    marks = pl.Series("duplicate", [False], dtype=pl.Boolean).new_from_index(0, rows.height)
    if duplicates.any():
        marks = marks.scatter(in_range.arg_true(), duplicates)
    return rows.with_columns(marks.alias("duplicate"))


def _repeated(keys: pl.DataFrame) -> pl.Series:
    """Whether each row has the ``listing_id``, or the ``address_key`` and ``zipcode``, of one
    before it."""
    repeated = pl.repeat(False, keys.height, dtype=pl.Boolean, eager=True)
    for names in (("listing_id",), ("address_key", "zipcode")):
        # Rows of different hashes differ; nearly always those are all rows.
        hashes = keys.select(reduce(xor, [pl.col(name).hash() for name in names])).to_series()
        if hashes.n_unique() == keys.height:
            continue
        doubtful = hashes.is_duplicated().arg_true()
        again = keys[doubtful].select(~pl.struct(names).is_first_distinct()).to_series()
        repeated = repeated.scatter(doubtful.filter(again), True)
    return repeated


def _address_keys(addresses: pl.Series) -> pl.Series:
    """The normalised addresses. Some at a time: an address of one-letter words takes a dozen times
    its size on the way, and a hostile submission is nothing else."""
    name = "address_key"
    parts = [
        normalize_column(addresses.slice(start, _ADDRESSES_AT_ONCE)).alias(name)
        for start in range(0, addresses.len(), _ADDRESSES_AT_ONCE)
    ]
    return pl.concat(parts) if parts else pl.Series(name, dtype=pl.String)


def _with_places(
    assignment: Assignment, frames: Sequence[tuple[ZipCode, pl.DataFrame]]
) -> pl.DataFrame:
    """All rows, NaN as null, with the ZIP of each row's folder and where that ZIP's centroid is
    (null where it is not assigned)."""
    zips = {z.zipcode: z for z in assignment.zipcodes}
    assigned = [zips.get(zipcode) for zipcode, _ in frames]
    places = pl.DataFrame(
        {
            "folder": [zipcode for zipcode, _ in frames],
            "centroid_latitude": [zip_.latitude if zip_ else None for zip_ in assigned],
            "centroid_longitude": [zip_.longitude if zip_ else None for zip_ in assigned],
        },
        schema={
            "folder": pl.String(),
            "centroid_latitude": pl.Float64(),
            "centroid_longitude": pl.Float64(),
        },
    )
    heights = [frame.height for _, frame in frames]
    places = places[np.repeat(np.arange(len(frames)), heights)]
    rows = pl.concat([frame for _, frame in frames]) if frames else empty_listings()
    floats = [name for name, dtype in SCHEMA.items() if isinstance(dtype, pl.Float64)]
    # In one piece, since each step would go through the pieces one by one.
    return rows.rechunk().with_columns(pl.col(floats).fill_nan(None), *places.get_columns())


@dataclass(frozen=True)
class RangeRule:
    """One rule that a row in range keeps: ``keeps`` over the columns of ``judge_rows``.
    ``broken`` says how a row breaks it, ``columns`` what it looks at. ``surely`` takes less time
    and is true only of rows that keep the rule, as nearly all do."""

    broken: str
    columns: tuple[str, ...]
    keeps: pl.Expr
    surely: pl.Expr


def range_rules(assignment: Assignment) -> tuple[RangeRule, ...]:
    """The rules of the range (mechanism 6). An absent optional field keeps its rule."""
    return _range_rules(assignment.epoch, assignment.rules.lookback_days)


@lru_cache(maxsize=8)
def _range_rules(epoch: Epoch, lookback_days: int) -> tuple[RangeRule, ...]:
    earliest = (epoch.end - timedelta(days=lookback_days)).date()
    texts = [name for name in REQUIRED if isinstance(SCHEMA[name], pl.String)]
    present = pl.all_horizontal(
        [pl.col(name).is_not_null() for name in REQUIRED]
        + [pl.col(name).str.strip_chars_start().str.len_bytes() > 0 for name in texts]
    )
    identified = pl.col("listing_id").str.starts_with(pl.concat_str(pl.col("source"), pl.lit(":")))
    # Most submissions are of one source.
    source = pl.col("source").first()
    surely_identified = (pl.col("source") == source) & pl.col("listing_id").str.starts_with(
        source + ":"
    )
    surely_present = pl.all_horizontal(
        _begin_with_a_sign(texts),
        pl.col([name for name in REQUIRED if name not in texts]).is_not_null(),
    )
    typed = pl.col("property_type").is_in(list(PROPERTY_TYPES))
    priced = pl.col("sale_price").is_between(MIN_PRICE, MAX_PRICE)
    sold = pl.col("sale_date").is_between(earliest, epoch.end.date())
    scraped = pl.col("scraped_at").is_between(epoch.start, epoch.end)
    roomy = pl.col("bedrooms").is_between(0, MAX_BEDROOMS)
    every_text = [name for name, dtype in SCHEMA.items() if isinstance(dtype, pl.String)]
    # Each one's absence is no fault here, so it is told before they are put together.
    brief = pl.all_horizontal(
        (pl.col(every_text).str.len_bytes() <= MAX_TEXT_BYTES).fill_null(value=True)
    )
    near = _is_near()

    def rule(
        broken: str,
        columns: tuple[str, ...],
        keeps: pl.Expr,
        absent: bool,
        surely: pl.Expr | None = None,
    ) -> RangeRule:
        keeps = keeps.fill_null(value=absent)
        surely = keeps if surely is None else surely.fill_null(value=absent)
        return RangeRule(broken, columns, keeps, surely)

    return (
        rule("a required field is absent", REQUIRED, present, False, surely_present),
        rule(
            "listing_id does not begin with its source",
            ("source",),
            identified,
            False,
            surely_identified,
        ),
        rule(f"a text has more than {MAX_TEXT_BYTES:,} bytes", (), brief, True),
        rule("property_type is not one of the schema's", ("property_type",), typed, False),
        rule(
            f"sale_price is outside {MIN_PRICE:,} to {MAX_PRICE:,}", ("sale_price",), priced, False
        ),
        rule(f"sale_date is outside {earliest} to {epoch.end.date()}", ("sale_date",), sold, False),
        rule("scraped_at is outside the epoch", ("scraped_at",), scraped, False),
        rule(f"bedrooms is outside 0 to {MAX_BEDROOMS}", ("bedrooms",), roomy, True),
        rule(
            f"it is more than {MAX_CENTROID_KM:g} km from its ZIP's centroid",
            ("latitude", "longitude"),
            near,
            True,
            _is_surely_near(),
        ),
    )


def _in_range(assignment: Assignment, rows: pl.DataFrame) -> pl.Series:
    """Whether each row is in range."""
    surely = _surely_in_range(assignment.epoch, assignment.rules.lookback_days)
    sure = rows.select(surely=surely).to_series()
    if sure.all():
        return sure
    keeps = [rule.keeps for rule in range_rules(assignment)]
    doubtful = rows.filter(~sure).select(pl.all_horizontal(keeps))
    return sure.scatter((~sure).arg_true(), doubtful.to_series())


@lru_cache(maxsize=8)
def _surely_in_range(epoch: Epoch, lookback_days: int) -> pl.Expr:
    return pl.all_horizontal([rule.surely for rule in _range_rules(epoch, lookback_days)])


def _begin_with_a_sign(names: Iterable[str]) -> pl.Expr:
    """Whether texts are there and begin with a sign of ASCII, so that they are not blank."""
    return pl.col(list(names)).is_between(pl.lit("!"), pl.lit("~"))


def _is_surely_near() -> pl.Expr:
    """Whether both coordinates are so near the centroid's that no distance need be computed: 0.3
    degrees of each are 47.2 km at most."""
    latitudes = (pl.col("latitude") - pl.col("centroid_latitude")).abs()
    longitudes = (pl.col("longitude") - pl.col("centroid_longitude")).abs()
    return (latitudes <= SURELY_NEAR_DEGREES) & (longitudes <= SURELY_NEAR_DEGREES)


def _is_near() -> pl.Expr:
    """Whether a row is within reach of its ZIP's centroid; null where either has no place."""
    latitude, centre = pl.col("latitude"), pl.col("centroid_latitude")
    longitudes = pl.col("longitude") - pl.col("centroid_longitude")
    places = ("latitude", "longitude", "centroid_latitude", "centroid_longitude")
    # Degrees that are none would be beyond what the sine is good for.
    sane = ((latitude - centre).abs() <= 1.0) & (longitudes.abs() <= 360.0)
    around = longitudes - 360.0 * ((longitudes + 180.0) / 360.0).floor()
    near = sane & (haversine(centre, latitude, around) <= NEAR_HAVERSINE)
    return pl.when(pl.all_horizontal(pl.col(places).is_not_null())).then(near)


def haversine(latitude: _Real, other: _Real, longitudes: _Real) -> _Real:
    """The haversine of the angle between two places, given in degrees: their latitudes, and how
    far their longitudes are apart, up to 180."""
    half_lat = _sine((other - latitude) * _HALF_RADIANS)
    half_lon = _sine(longitudes * _HALF_RADIANS)
    across = _cosine(latitude) * _cosine(other)
    return half_lat * half_lat + across * half_lon * half_lon


def _cosine(degrees: _Real) -> _Real:
    half = _sine(degrees * _HALF_RADIANS)
    return half * half * -2.0 + 1.0


def _sine(angle: _Real) -> _Real:
    """The sine of up to a right angle, in additions and multiplications alone: IEEE 754 leaves no
    choice in those. A library's sine may end in another bit on another processor, and what is just
    within reach for one validator would be just out of it for another (docs/decisions/0068)."""
    square = angle * angle
    series = square * _SINE_TERMS[-1] + _SINE_TERMS[-2]
    for term in _SINE_TERMS[-3::-1]:
        series = series * square + term
    return series * angle


_REACH: Final = _sine(MAX_CENTROID_KM / EARTH_RADIUS_KM / 2)
NEAR_HAVERSINE: Final = _REACH * _REACH


def _check_rows(rows: pl.DataFrame, reasons: _Reasons) -> None:
    total = rows.height
    wrong = int(rows["wrong_zip"].sum())
    if wrong:
        strays = rows.filter("wrong_zip").select("zipcode", "folder").row(0)
        reasons.add(
            Code.WRONG_ZIPCODE,
            f"{wrong} of {total} rows are of another ZIP than their folder "
            f"(such as {str(strays[0])[:12]!r} in zipcode={strays[1]}).",
            wrong,
        )
    out = total - int(rows["in_range"].sum())
    if out * 100 > total * OUT_OF_RANGE_PERCENT:
        reasons.add(
            Code.OUT_OF_RANGE_OVER_LIMIT,
            f"{out} of {total} rows are out of range or lack a required field; "
            f"{OUT_OF_RANGE_PERCENT} % are allowed.",
            out,
        )
    duplicates = int(rows["duplicate"].sum())
    if duplicates * 100 > total * DUPLICATE_PERCENT:
        reasons.add(
            Code.DUPLICATES_OVER_LIMIT,
            f"{duplicates} of {total} rows repeat an earlier row's listing_id, or its address and "
            f"ZIP; {DUPLICATE_PERCENT} % are allowed.",
            duplicates,
        )


def _result(
    assignment: Assignment,
    hotkey: Hotkey,
    time: datetime | None,
    rows: pl.DataFrame,
    reasons: _Reasons,
) -> QuickResult:
    counts = rows["in_range"] & ~rows["duplicate"]
    kept = rows if counts.all() else rows.filter(counts)
    kept = kept.with_columns(filled_fields(kept))
    volume = volume_score(assignment, kept)
    least = assignment.rules.min_volume_percent
    valid = not reasons
    participant = valid and volume >= least * PPM // 100
    if valid and not participant:
        reasons.add(
            Code.BELOW_MIN_VOLUME,
            f"The {kept.height} rows that count make {volume / 10_000:.1f} % of the expected "
            f"volume; taking part needs {least} %.",
            kept.height,
        )
    return QuickResult(
        hotkey=hotkey,
        submission_time=time,
        rows=rows.height,
        duplicates=int(rows["duplicate"].sum()),
        out_of_range=rows.height - int(rows["in_range"].sum()),
        zipcodes=kept["zipcode"].n_unique(),
        completeness=completeness_score(counted_rows(assignment, kept)),
        volume=volume,
        participant=participant,
        reasons=reasons.result(),
        kept=kept.select(KEPT_COLUMNS) if valid else no_kept_rows(),
    )


def is_filled(name: str) -> pl.Expr:
    """Whether a row has an optional field. A blank text is not a filled field."""
    column = pl.col(name)
    filled = column.is_not_null()
    if isinstance(SCHEMA[name], pl.String):
        filled = filled & (column.str.strip_chars_start().str.len_bytes() > 0)
    return filled


_OPTIONAL_TEXTS: Final = tuple(n for n in OPTIONAL if isinstance(SCHEMA[n], pl.String))
_OPTIONAL_TEXTS_ARE_PLAIN: Final = _begin_with_a_sign(_OPTIONAL_TEXTS).all()


def filled_fields(rows: pl.DataFrame) -> pl.Series:
    """How many optional fields each row has filled. A field is looked at row by row only where
    some have it and some do not, or where a text may be blank."""
    plain = rows.select(_OPTIONAL_TEXTS_ARE_PLAIN).row(0)
    blank = {name for name, is_plain in zip(_OPTIONAL_TEXTS, plain, strict=True) if not is_plain}
    everywhere = 0
    fields: list[pl.Expr] = []
    for name in OPTIONAL:
        absent = rows[name].null_count()
        if name in blank:
            fields.append(is_filled(name))
        elif absent == 0:
            everywhere += 1
        elif absent < rows.height:
            fields.append(pl.col(name).is_not_null())
    count = pl.repeat(everywhere, rows.height, dtype=pl.UInt8, eager=True).alias("filled")
    if not fields:
        return count
    some = rows.select(pl.sum_horizontal([field.cast(pl.UInt8) for field in fields])).to_series()
    return count + some


def counted_rows(assignment: Assignment, kept: pl.DataFrame) -> pl.DataFrame:
    """The kept rows that completeness is taken of: of a ZIP that has more of them than count for
    volume, so many that have most fields filled. Were it all of them, leaving out poor rows would
    pay (docs/decisions/0064).

    Args:
        kept: with ``zipcode`` and ``filled``.
    """
    caps = {z.zipcode: assignment.cap_of(z) for z in assignment.zipcodes}
    counts = kept["zipcode"].value_counts()
    if all(rows <= caps.get(zipcode, rows) for zipcode, rows in counts.iter_rows()):
        return kept
    place = pl.col("filled").rank("ordinal", descending=True).over("zipcode")
    cap = pl.col("zipcode").replace_strict(caps, default=kept.height, return_dtype=pl.Int64)
    return kept.filter(place <= cap)


def completeness_score(counted: pl.DataFrame) -> Ppm:
    """filled optional fields × 10^6 // (rows × 16), over the counted rows with their ``filled``; 0
    for no row."""
    if not counted.height:
        return Ppm(0)
    return Ppm(int(counted["filled"].sum()) * PPM // (counted.height * len(OPTIONAL)))


def volume_score(assignment: Assignment, kept: pl.DataFrame) -> Ppm:
    """Σ over assigned ZIPs of expected × min(rows × 10^6 // cap, 10^6) // Σ expected, where
    cap = min(expected, SOURCE_RESULT_LIMIT) (mechanism 6)."""
    counts: Counter[str] = Counter()
    # In the order of keys, so that the rows of a ZIP are one run, or few.
    for length, zipcode in kept.select(pl.col("zipcode").rle()).unnest("zipcode").iter_rows():
        counts[zipcode] += length
    total = 0
    for zip_ in assignment.zipcodes:
        cap = assignment.cap_of(zip_)
        share = min(counts.get(zip_.zipcode, 0) * PPM // cap, PPM)
        total += zip_.expected_listings * share
    return Ppm(total // assignment.total_expected_listings)
