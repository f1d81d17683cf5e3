"""AWS Signature Version 4, as far as this house signs by itself: POST policies and presigned GETs.

Both are pure arithmetic over a key that changes once a day, so the API server can sign thousands
a second. The formats are those of the S3 documents "Creating a POST policy" and "Authenticating
requests: using query parameters"; the tests compare them with botocore's and let a real server
judge them.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_PRESIGN_SECONDS = 7 * 86_400
"""S3 accepts no presigned address that lives longer."""


@lru_cache(maxsize=16)
def _signing_key(secret_key: str, date: str, region: str) -> bytes:
    key = b"AWS4" + secret_key.encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _scope(now: datetime, region: str) -> tuple[str, str, str]:
    """The date, the full time and the credential scope of a signature made at ``now``."""
    if now.tzinfo is None:
        raise ValueError("a signature's time must name its zone")
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return stamp[:8], stamp, f"{stamp[:8]}/{region}/s3/aws4_request"


def post_policy_fields(
    *,
    access_key: str,
    secret_key: str,
    region: str,
    bucket: str,
    prefix: str,
    expires_at: datetime,
    max_bytes: int,
    metadata: Mapping[str, str],
    now: datetime,
) -> dict[str, str]:
    """The form fields of a POST that may write under ``prefix``, with exactly this metadata.

    ``Content-Type`` is a field with a default that the uploader may change; an empty object is
    refused. Times are aware; ``expires_at`` counts in whole seconds.
    """
    date, stamp, scope = _scope(now, region)
    credential = f"{access_key}/{scope}"
    meta = {f"x-amz-meta-{name}": value for name, value in metadata.items()}
    signing = {
        "x-amz-algorithm": ALGORITHM,
        "x-amz-credential": credential,
        "x-amz-date": stamp,
    }
    exact = {"bucket": bucket, **meta, **signing}
    document = {
        "expiration": expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "conditions": [
            ["starts-with", "$key", prefix],
            ["starts-with", "$Content-Type", ""],
            ["content-length-range", 1, max_bytes],
            *({name: value} for name, value in exact.items()),
        ],
    }
    policy = base64.b64encode(json.dumps(document).encode())
    signature = hmac.digest(_signing_key(secret_key, date, region), policy, "sha256").hex()
    return {
        "key": prefix + "${filename}",
        "Content-Type": "application/octet-stream",
        **meta,
        **signing,
        "policy": policy.decode(),
        "x-amz-signature": signature,
    }


def presigned_get(
    *,
    access_key: str,
    secret_key: str,
    region: str,
    bucket_url: str,
    key: str,
    version_id: str | None,
    expires_in_seconds: int,
    now: datetime,
) -> str:
    """An address that reads one object, or just one version of it, without any key.

    ``bucket_url`` is the bucket's address without a slash at its end.

    Raises:
        ValueError: where the life is not within 1 s and seven days.
    """
    if not 1 <= expires_in_seconds <= MAX_PRESIGN_SECONDS:
        raise ValueError(
            f"A presigned address cannot live {expires_in_seconds} seconds: "
            f"1 to {MAX_PRESIGN_SECONDS} are possible."
        )
    date, stamp, scope = _scope(now, region)
    address = urlsplit(bucket_url)
    path = f"{address.path}/{quote(key, safe='/-_.~')}"
    query = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_in_seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if version_id is not None:
        query["versionId"] = version_id
    # The names above are already in the order of their bytes, as the signature wants them.
    canonical_query = "&".join(f"{name}={quote(text, safe='-_.~')}" for name, text in query.items())
    request = "\n".join(
        ("GET", path, canonical_query, f"host:{address.netloc}", "", "host", "UNSIGNED-PAYLOAD")
    )
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join((ALGORITHM, stamp, scope, digest))
    signature = hmac.digest(_signing_key(secret_key, date, region), text.encode(), "sha256").hex()
    origin = f"{address.scheme}://{address.netloc}"
    return f"{origin}{path}?{canonical_query}&X-Amz-Signature={signature}"
