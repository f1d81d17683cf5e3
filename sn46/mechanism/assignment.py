"""The assignment: what the API hands to every miner and validator of an epoch (mechanism 3).

Its signed form is the canonical JSON without ``signature``. ``selection.seed`` is null until the
epoch has ended; the API then signs the completed document anew. ``assignment_hash`` is taken with
the seed left out, so that it is the same before and after the reveal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sn46.mechanism.canonical import canonical_json, hash_json, hmac_hex, sha256_hex
from sn46.mechanism.epochs import Epoch, check_epoch_seconds, parse_epoch_id
from sn46.mechanism.errors import AssignmentError, DrawError, EpochError
from sn46.mechanism.names import EpochId, Hotkey, ZipCode
from sn46.mechanism.rules import Rules
from sn46.mechanism.selection import Selection, read_selection
from sn46.mechanism.signing import Signer, sign_document, verify_document
from sn46.mechanism.times import format_time, parse_time


@dataclass(frozen=True)
class AssignedZip:
    """One ZIP of a draw. ``expected_listings`` is what 100 % volume means for it."""

    zipcode: ZipCode
    expected_listings: int
    state: str
    city: str
    county: str
    market_tier: str
    latitude: float
    longitude: float


@dataclass(frozen=True)
class Assignment:
    """An epoch's assignment, without its signature. ``zipcodes`` are sorted by ZIP."""

    epoch: Epoch
    nonce: str
    rules: Rules
    validators: tuple[Hotkey, ...]
    zipcodes: tuple[AssignedZip, ...]
    selection: Selection
    api_hotkey: Hotkey

    @property
    def epoch_id(self) -> EpochId:
        return self.epoch.id

    @property
    def target_listings(self) -> int:
        return self.selection.draw_rules.target_listings

    @property
    def tolerance_percent(self) -> int:
        return self.selection.draw_rules.tolerance_percent

    @property
    def submission_deadline(self) -> datetime:
        return self.epoch.end

    @property
    def grace_end(self) -> datetime:
        """Until when uploads count as simultaneous for speed."""
        return self.rules.grace_end(self.epoch)

    def cap_of(self, zip_: AssignedZip) -> int:
        """min(expected, SOURCE_RESULT_LIMIT): with so many rows a ZIP's volume is full
        (mechanism 6)."""
        return min(zip_.expected_listings, self.rules.source_result_limit)

    @property
    def total_expected_listings(self) -> int:
        return sum(z.expected_listings for z in self.zipcodes)

    @property
    def hash(self) -> str:
        """``assignment_hash``: the same before and after the seed is revealed."""
        return hash_json(replace(self, selection=replace(self.selection, seed=None)).to_json())

    def with_seed(self, seed: str) -> "Assignment":
        """The assignment as it reads once its epoch has ended.

        Raises:
            AssignmentError: where the seed is not the one committed to.
        """
        if sha256_hex(seed) != self.selection.commitment:
            raise AssignmentError(
                f"The seed of {self.epoch_id} does not hash to its published commitment."
            )
        return replace(self, selection=replace(self.selection, seed=seed))

    def to_json(self) -> dict[str, Any]:
        """The document without ``signature``."""
        return {
            "epoch_id": self.epoch_id,
            "epoch_start": format_time(self.epoch.start),
            "epoch_end": format_time(self.epoch.end),
            "submission_deadline": format_time(self.submission_deadline),
            "nonce": self.nonce,
            "target_listings": self.target_listings,
            "tolerance_percent": self.tolerance_percent,
            "rules": self.rules.to_json(),
            "validators": list(self.validators),
            "zipcodes": [
                {
                    "zipcode": z.zipcode,
                    "expected_listings": z.expected_listings,
                    "state": z.state,
                    "city": z.city,
                    "county": z.county,
                    "market_tier": z.market_tier,
                    "latitude": z.latitude,
                    "longitude": z.longitude,
                }
                for z in self.zipcodes
            ],
            "total_expected_listings": self.total_expected_listings,
            "selection": self.selection.to_json(),
            "api_hotkey": self.api_hotkey,
        }

    def sign(self, signer: Signer) -> dict[str, Any]:
        """The document as served, signed by the API's hotkey.

        Raises:
            AssignmentError: where the signer is not the ``api_hotkey`` that the document names.
        """
        if signer.ss58_address != self.api_hotkey:
            raise AssignmentError("An assignment is signed by the hotkey that it names.")
        return sign_document(self.to_json(), signer)


def zipcodes_hash(zipcodes: tuple[AssignedZip, ...]) -> str:
    """Hash of the canonical JSON of ``[[zipcode, expected_listings], …]`` sorted by ZIP."""
    return hash_json(sorted([z.zipcode, z.expected_listings] for z in zipcodes))


def assignment_nonce(secret: bytes, epoch: Epoch, zipcodes: tuple[AssignedZip, ...]) -> str:
    """HMAC(secret, ``{epoch_id}:{epoch_start_unix_seconds}:{zipcodes_hash}``) (mechanism 3)."""
    start = int(epoch.start.timestamp())
    return hmac_hex(secret, f"{epoch.id}:{start}:{zipcodes_hash(zipcodes)}")


def selection_seed(secret: bytes, epoch_id: EpochId) -> str:
    """The draw's seed: HMAC(secret, ``selection:{epoch_id}``), 64 hex digits (mechanism 2)."""
    return hmac_hex(secret, f"selection:{epoch_id}")


def seed_commitment(seed: str) -> str:
    """hash(seed): SHA-256 over the seed's hex text."""
    return sha256_hex(seed)


def read_assignment(document: Mapping[str, Any], api_hotkey: str | None = None) -> Assignment:
    """Read an assignment as served and check it from end to end.

    Args:
        document: the JSON object.
        api_hotkey: the API's hotkey, which must have signed; None takes the one that the
            document names (for a replay, where the reader says whom to trust).

    Raises:
        AssignmentError: where the signature, the rules' version or any field is not right.
    """
    named = document.get("api_hotkey")
    trusted = named if api_hotkey is None else api_hotkey
    if not isinstance(named, str) or not isinstance(trusted, str):
        # Not shown: nothing is signed yet, and what a stranger nested deeply cannot even be.
        raise AssignmentError("The assignment names no hotkey as the API's.")
    if named != trusted:
        raise AssignmentError(
            f"The assignment names {named[:64]!r} as the API's hotkey; this program trusts "
            f"{trusted!r}."
        )
    if not verify_document(document, trusted):
        raise AssignmentError(
            "The assignment's signature is not the API's. It was altered on its way or comes "
            "from another server; it is not used."
        )
    rules = Rules.from_json(document.get("rules"))
    try:
        return _parse(document, rules)
    except (KeyError, TypeError, ValueError, AttributeError, EpochError, DrawError) as error:
        raise AssignmentError(f"The assignment is malformed: {error!r}.") from error


def _parse(document: Mapping[str, Any], rules: Rules) -> Assignment:
    start = parse_time(document["epoch_start"])
    end = parse_time(document["epoch_end"])
    seconds = check_epoch_seconds(int((end - start).total_seconds()))
    epoch = parse_epoch_id(str(document["epoch_id"]), seconds)
    assignment = Assignment(
        epoch=epoch,
        nonce=str(document["nonce"]),
        rules=rules,
        validators=tuple(Hotkey(str(v)) for v in document["validators"]),
        zipcodes=tuple(
            AssignedZip(
                zipcode=ZipCode(str(z["zipcode"])),
                expected_listings=int(z["expected_listings"]),
                state=str(z["state"]),
                city=str(z["city"]),
                county=str(z["county"]),
                market_tier=str(z["market_tier"]),
                latitude=float(z["latitude"]),
                longitude=float(z["longitude"]),
            )
            for z in document["zipcodes"]
        ),
        selection=read_selection(
            document["selection"], document["target_listings"], document["tolerance_percent"]
        ),
        api_hotkey=Hotkey(str(document["api_hotkey"])),
    )
    unsigned = {key: value for key, value in document.items() if key != "signature"}
    if canonical_json(assignment.to_json()) != canonical_json(unsigned):
        raise AssignmentError("The assignment's fields contradict each other.")
    _check_zipcodes(assignment.zipcodes)
    return assignment


def _check_zipcodes(zipcodes: tuple[AssignedZip, ...]) -> None:
    """What scoring relies on: some ZIPs, each once and in order, each with listings to expect."""
    names = [z.zipcode for z in zipcodes]
    if not names or names != sorted(set(names)):
        raise AssignmentError("The assignment's ZIPs are none, not sorted, or not distinct.")
    if any(z.expected_listings < 1 for z in zipcodes):
        raise AssignmentError("The assignment expects no listing of one of its ZIPs.")
