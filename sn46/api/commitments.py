"""What to sign for each call, in each way, with examples that verify."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sn46.api.identity import WINDOW_AHEAD_SECONDS, WINDOW_BACK_SECONDS

EXAMPLE_HOTKEY = "5DtDLm5rQHShDqojQpsvcN8tRXHVFaecfDoRet1SU6BFD9Fi"
"""Of the key with the seed 32 × 0x11; the examples' server has 32 × 0x22."""
EXAMPLE_SERVER = "5Fpfx4iDtrrY99VGkQnLXASytC2y9Z3o8KUyTtD4w7o5SZcA"
EXAMPLE_SECONDS = 1_710_518_700
EXAMPLE_SIGNATURE = (
    "baf33e1a1e5409c0ba5129da34b1aa5a3a29943fb780a8280ad472ad46dfcd00"
    "980d4992e6458c8bfd79426ac769ea39a02caa96cae59c9fbeb098441c908886"
)
_BTAUTH_SIGNATURE = (
    "0x30c9c026dd61afd2125ad61a9dc1b15b6d2fb877ced201484787186f6e515b24"
    "4ac3b52e8c15e987796aebdfbec9a2509e38e84bddc7e81db91b37f5dea2898c"
)
_SHA256_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_CURRENT = "/api/v1/zipcode-assignments/current"


@dataclass(frozen=True)
class Commitment:
    """The texts of one call, any of which may be signed, without ``:{timestamp}`` at their end.

    ``field_texts`` are for requests signed by fields; the same as ``texts`` where there are none
    of their own. ``body`` is an example.
    """

    method: str
    path: str
    callers: str
    texts: tuple[str, ...]
    field_texts: tuple[str, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "path": self.path,
            "who": self.callers,
            "headers": [f"{text}:{{timestamp}}" for text in self.texts],
            "fields": [f"{text}:{{timestamp}}" for text in self.field_texts or self.texts],
            "btauth": f"btauth/1\nsr25519\n{self.method}\n{self.path}\n{{body_sha256}}\n"
            "{nonce}\n{hotkey}\n{server_hotkey}",
            "body": dict(self.body) or None,
        }


COMMITMENTS = (
    Commitment(
        "GET",
        _CURRENT,
        "registered",
        ("zipcode:assignment:current", "zipcode:validation:current"),
    ),
    Commitment(
        "GET",
        "/api/v1/zipcode-assignments/epoch/{epoch_id}",
        "validators",
        ("zipcode:validation:{epoch_id}",),
    ),
    Commitment(
        "POST",
        "/api/v1/zipcode-assignments/status",
        "registered",
        ("zipcode:status:{epoch_id}",),
        ("zipcode:status:{epoch_id}", "miner:status:{hotkey}:{epoch_id}"),
        {
            "epoch_id": "{epoch_id}",
            "miner_hotkey": "{hotkey}",
            "nonce": "{nonce}",
            "status": "in_progress",
            "listings_found": 0,
            "s3_upload_complete": False,
        },
    ),
    Commitment(
        "POST",
        "/api/v1/s3-access/miner-upload",
        "registered",
        ("s3:miner:upload:{epoch_id}",),
        body={"epoch_id": "{epoch_id}"},
    ),
    Commitment(
        "POST",
        "/api/v1/s3-access/validator-upload",
        "validators",
        ("s3:validator:upload",),
        body={"epoch_id": "{epoch_id}", "purpose": "results"},
    ),
    Commitment(
        "POST",
        "/api/v1/s3-access/validator-read",
        "validators",
        ("s3:validator:read:{epoch_id}",),
        body={"epoch_id": "{epoch_id}"},
    ),
    Commitment(
        "POST",
        "/api/v1/validation-results",
        "validators",
        ("validation:result:{epoch_id}",),
        body={
            "epoch_id": "{epoch_id}",
            "consensus_hash": "0" * 64,
            "assignment_hash": "0" * 64,
        },
    ),
)


def describe(calls: Sequence[Commitment], server_hotkey: str) -> dict[str, Any]:
    """The document for callers; ``server_hotkey`` is whom btauth/1 requests are addressed to."""
    return {
        "signature": "sr25519, 64 bytes as hex, with or without 0x",
        "timestamp": {
            "unit": "Unix seconds",
            "may_be_old_by": WINDOW_BACK_SECONDS,
            "may_be_ahead_by": WINDOW_AHEAD_SECONDS,
        },
        "server_hotkey": server_hotkey,
        "example_key": {
            "hotkey": EXAMPLE_HOTKEY,
            "seed": "0x" + "11" * 32,
            "server_hotkey": EXAMPLE_SERVER,
        },
        "ways": {"headers": _HEADERS, "btauth": _BTAUTH, "fields": _FIELDS},
        "calls": [call.to_json() for call in calls],
    }


_TEXT = f"zipcode:assignment:current:{EXAMPLE_SECONDS}"
_HEADERS = {
    "how": "Sign one of the call's texts with the timestamp; send three headers.",
    "example": {
        "request": f"GET {_CURRENT}",
        "signed_text": _TEXT,
        "headers": {
            "Authorization": f"Bearer {EXAMPLE_SIGNATURE}",
            "X-Hotkey": EXAMPLE_HOTKEY,
            "X-Timestamp": str(EXAMPLE_SECONDS),
        },
    },
}
_BTAUTH = {
    "how": "The signed-request headers of the bittensor SDK 11 (bittensor.http_auth, btauth/1), "
    "with this server's hotkey as receiver. Sign every request anew, repeats too.",
    "example": {
        "request": f"GET {_CURRENT}",
        "signed_text": "\n".join(
            (
                "btauth/1",
                "sr25519",
                "GET",
                _CURRENT,
                _SHA256_OF_NOTHING,
                f"{EXAMPLE_SECONDS}000000000",
                EXAMPLE_HOTKEY,
                EXAMPLE_SERVER,
            )
        ),
        "headers": {
            "X-Bittensor-Version": "1",
            "X-Bittensor-Hotkey": EXAMPLE_HOTKEY,
            "X-Bittensor-Nonce": f"{EXAMPLE_SECONDS}000000000",
            "X-Bittensor-Signature": _BTAUTH_SIGNATURE,
            "X-Bittensor-Receiver": EXAMPLE_SERVER,
        },
    },
}
_FIELDS = {
    "how": "Sign one of the call's texts with the timestamp; send hotkey, signature and timestamp "
    "in the query of a GET or in the JSON body of a POST. The answer is in camelCase.",
    "example": {
        "request": f"GET {_CURRENT}?hotkey={EXAMPLE_HOTKEY}&signature={EXAMPLE_SIGNATURE}"
        f"&timestamp={EXAMPLE_SECONDS}",
        "signed_text": _TEXT,
    },
}
