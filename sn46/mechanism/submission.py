"""What a miner uploads: object keys, their metadata and the signed manifest (mechanism 4)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sn46.mechanism.errors import SubmissionError
from sn46.mechanism.names import EpochId, Hotkey, ZipCode
from sn46.mechanism.signing import Signer, sign_document
from sn46.mechanism.times import format_time

EPOCH_METADATA = "epoch-id"
NONCE_METADATA = "nonce"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_FILE_BYTES = 64 * 1024 * 1024
"""No file of one ZIP is near this: 1,000 listings are about 80 kB."""

MAX_NESTING = 64
MAX_DIGITS = 64
"""How deep lists and objects of a document may be in one another, and how long a whole number is.
Python's own limits are others in other versions and settings; these are the same for everybody who
judges."""

MAX_COUNT = 10**12
"""No manifest counts more rows or bytes of one file than this."""

_ZIP = re.compile(r"\d{5}", re.ASCII)
_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class ObjectInfo:
    """An object of a bucket as the store lists it.

    ``last_modified`` is the store's own time, the only one that counts; ``size`` is in bytes;
    ``metadata`` has lower-case names without the ``x-amz-meta-`` prefix.
    """

    key: str
    size: int
    last_modified: datetime
    metadata: Mapping[str, str]


def miner_prefix(hotkey: str, epoch_id: str) -> str:
    return f"miners/{hotkey}/epoch={epoch_id}/"


def miner_file_key(hotkey: str, epoch_id: str, zipcode: str) -> str:
    return f"{miner_prefix(hotkey, epoch_id)}zipcode={zipcode}/listings.parquet"


def manifest_key(hotkey: str, epoch_id: str) -> str:
    return f"{miner_prefix(hotkey, epoch_id)}manifest.json"


def validator_prefix(hotkey: str, epoch_id: str) -> str:
    return f"validators/{hotkey}/epoch={epoch_id}/"


def split_miner_key(key: str) -> tuple[Hotkey, EpochId] | None:
    """Whose folder and which epoch a key of the miner bucket lies in; None for any other key."""
    parts = key.split("/", 3)
    if len(parts) < 4 or parts[0] != "miners" or not parts[2].startswith("epoch="):
        return None
    return cast(Hotkey, parts[1]), cast(EpochId, parts[2].removeprefix("epoch="))


@dataclass(frozen=True)
class ManifestFile:
    """One file of a submission: ``rows`` and ``bytes`` as counted, ``sha256`` in hex."""

    key: str
    zipcode: ZipCode
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The list of a submission's files. Its signature is checked apart from its reading."""

    epoch_id: EpochId
    nonce: str
    miner_hotkey: Hotkey
    submission_timestamp: str
    files: tuple[ManifestFile, ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The document without ``signature``."""
        return {
            "epoch_id": self.epoch_id,
            "nonce": self.nonce,
            "miner_hotkey": self.miner_hotkey,
            "submission_timestamp": self.submission_timestamp,
            "files": [
                {
                    "key": f.key,
                    "zipcode": f.zipcode,
                    "rows": f.rows,
                    "bytes": f.bytes,
                    "sha256": f.sha256,
                }
                for f in self.files
            ],
        }

    def sign(self, signer: Signer) -> bytes:
        """manifest.json as it is uploaded."""
        return json.dumps(sign_document(self.to_json(), signer), indent=1).encode()


def new_manifest(
    *,
    epoch_id: EpochId,
    nonce: str,
    hotkey: Hotkey,
    made_at: datetime,
    files: tuple[ManifestFile, ...],
) -> Manifest:
    """A manifest over finished files, in the order of their ZIPs."""
    ordered = tuple(sorted(files, key=lambda f: f.zipcode))
    return Manifest(epoch_id, nonce, hotkey, format_time(made_at), ordered)


def load_document(body: bytes, what: str, limit: int = MAX_MANIFEST_BYTES) -> dict[str, Any]:
    """A JSON object out of untrusted bytes.

    Raises:
        SubmissionError: where the bytes are too many, no UTF-8, no JSON or no object.
    """
    if len(body) > limit:
        raise SubmissionError(f"{what} has {len(body)} bytes; {limit} are allowed.")
    refusal = (
        f"{what} is no JSON in UTF-8, nested at most {MAX_NESTING} deep and with whole numbers of "
        f"at most {MAX_DIGITS} digits."
    )
    try:
        value = json.loads(body.decode("utf-8"), parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        # In words of ours: Python's differ from version to version, and reasons are compared.
        raise SubmissionError(refusal) from error
    if _is_deep(value):
        raise SubmissionError(refusal)
    if not isinstance(value, dict):
        raise SubmissionError(f"{what} is not a JSON object.")
    return cast(dict[str, Any], value)


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("a number is too long")
    return int(text)


def _is_deep(value: Any) -> bool:
    level: list[Any] = [[value]]
    for _ in range(MAX_NESTING + 1):
        inside = [v.values() if isinstance(v, dict) else v for v in level]
        level = [v for values in inside for v in values if isinstance(v, dict | list)]
        if not level:
            return False
    return True


def parse_manifest(document: Mapping[str, Any]) -> Manifest:
    """Read a manifest's fields out of untrusted JSON. Its signature is not looked at.

    Raises:
        SubmissionError: where a field is missing or of another type, or a ZIP or key comes twice.
    """
    try:
        files_json = document["files"]
        if not isinstance(files_json, list):
            raise SubmissionError("manifest.json: files is not a list.")
        files = tuple(_manifest_file(f) for f in cast(list[Any], files_json))
        texts = [document[n] for n in ("epoch_id", "nonce", "miner_hotkey", "submission_timestamp")]
    except KeyError as error:
        raise SubmissionError(f"manifest.json lacks {error.args[0]!r}.") from error
    if not all(isinstance(text, str) for text in texts):
        raise SubmissionError("manifest.json: a text field is not a text.")
    if len({f.zipcode for f in files}) != len(files):
        raise SubmissionError("manifest.json names two files for one ZIP.")
    return Manifest(
        epoch_id=cast(EpochId, texts[0]),
        nonce=texts[1],
        miner_hotkey=cast(Hotkey, texts[2]),
        submission_timestamp=texts[3],
        files=files,
    )


def _is_count(value: Any) -> bool:
    # Bounded, so that no sum of them grows past what JSON and tables can hold.
    return type(value) is int and 0 <= value <= MAX_COUNT


def _manifest_file(value: Any) -> ManifestFile:
    if not isinstance(value, Mapping):
        raise SubmissionError("manifest.json: an entry of files is not an object.")
    entry = cast(Mapping[str, Any], value)
    key, zipcode, digest = entry["key"], entry["zipcode"], entry["sha256"]
    rows, size = entry["rows"], entry["bytes"]
    if not isinstance(key, str) or not isinstance(zipcode, str) or not _ZIP.fullmatch(zipcode):
        raise SubmissionError("manifest.json: a file's key or zipcode is malformed.")
    if not isinstance(digest, str) or not _HEX64.fullmatch(digest.lower()):
        raise SubmissionError(f"manifest.json: the sha256 of ZIP {zipcode} is malformed.")
    if not _is_count(rows) or not _is_count(size):
        raise SubmissionError(f"manifest.json: rows or bytes of ZIP {zipcode} is no count.")
    return ManifestFile(key, cast(ZipCode, zipcode), rows, size, digest.lower())
