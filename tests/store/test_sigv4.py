"""Our signatures against botocore's."""

import base64
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from botocore.auth import S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from sn46.store.s3 import S3Access
from sn46.store.sigv4 import MAX_PRESIGN_SECONDS, post_policy_fields, presigned_get

ACCESS, SECRET, REGION = "AKID", "secret/+=", "nyc3"
NOW = datetime(2024, 3, 15, 16, 0, 5, tzinfo=UTC)
KEYS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("/ %+~&=?:"), min_size=1
)


def test_post_policy_has_the_signature_that_botocore_computes() -> None:
    fields = post_policy_fields(
        access_key=ACCESS,
        secret_key=SECRET,
        region=REGION,
        bucket="bucket",
        prefix="miners/5A/",
        expires_at=NOW + timedelta(hours=4),
        max_bytes=1000,
        metadata={"nonce": "n"},
        now=NOW,
    )
    document = json.loads(base64.b64decode(fields["policy"]))
    assert document["expiration"] == "2024-03-15T20:00:05Z"
    signing = ("x-amz-algorithm", "x-amz-credential", "x-amz-date")
    document["conditions"] = [
        c for c in document["conditions"] if not (isinstance(c, dict) and set(c) & set(signing))
    ]
    request = AWSRequest()
    request.context["s3-presign-post-fields"] = {}
    request.context["s3-presign-post-policy"] = document
    with time_machine.travel(NOW, tick=False):
        S3SigV4PostAuth(Credentials(ACCESS, SECRET), "s3", REGION).add_auth(request)
    theirs = request.context["s3-presign-post-fields"]
    assert {name: fields[name] for name in theirs} == theirs


@given(key=KEYS, version=st.none() | st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True))
def test_presigned_get_is_botocores(key: str, version: str | None) -> None:
    base = "https://bucket.nyc3.example.com"
    ours = presigned_get(
        access_key=ACCESS,
        secret_key=SECRET,
        region=REGION,
        bucket_url=base,
        key=key,
        version_id=version,
        expires_in_seconds=600,
        now=NOW,
    )
    request = AWSRequest(method="GET", url=ours.split("?")[0])
    if version is not None:
        request.url += f"?versionId={version}"
    with time_machine.travel(NOW, tick=False):
        S3SigV4QueryAuth(Credentials(ACCESS, SECRET), "s3", REGION, expires=600).add_auth(request)
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(request.url).query)


@pytest.mark.parametrize("seconds", [0, -1, MAX_PRESIGN_SECONDS + 1])
def test_presigned_get_has_a_life_that_s3_allows(seconds: int) -> None:
    with pytest.raises(ValueError, match="seconds"):
        presigned_get(
            access_key=ACCESS,
            secret_key=SECRET,
            region=REGION,
            bucket_url="https://a.example.com",
            key="k",
            version_id=None,
            expires_in_seconds=seconds,
            now=NOW,
        )


@pytest.mark.parametrize(
    ("endpoint", "path_style", "expected"),
    [
        ("", None, "https://b.s3.eu-west-1.amazonaws.com"),
        ("https://nyc3.digitaloceanspaces.com/", None, "https://b.nyc3.digitaloceanspaces.com"),
        ("https://nyc3.digitaloceanspaces.com", True, "https://nyc3.digitaloceanspaces.com/b"),
        ("http://127.0.0.1:8333", None, "http://127.0.0.1:8333/b"),
        ("http://[::1]:8333", None, "http://[::1]:8333/b"),
        ("http://localhost:8333", None, "http://localhost:8333/b"),
    ],
)
def test_bucket_address(endpoint: str, path_style: bool | None, expected: str) -> None:
    access = S3Access(endpoint, "eu-west-1", "a", "s", path_style)
    assert access.bucket_url("b") == expected
    assert "'s'" not in repr(access)
