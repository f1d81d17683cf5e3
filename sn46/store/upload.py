"""Upload with a signed policy: a multipart POST, fields first and the file last; success is 204.

What the store refuses for good is UploadRefused and not tried again; what may pass (5xx,
time-outs, dropped connections) is, a few times, with growing and jittered pauses.
"""

import xml.etree.ElementTree as ET
from datetime import timedelta

import httpx
import stamina

from sn46.store.base import StoreError, UploadPolicy, UploadRefused

ATTEMPTS = 5
_LONGEST_ERROR = 100_000
_TIMEOUT = httpx.Timeout(60, connect=10)
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"})
_MENDS = {
    "EntityTooLarge": "The file is larger than the policy allows.",
    "EntityTooSmall": "The file is empty.",
    "RequestTimeTooSkewed": "The API server's clock and the store's differ: tell its owner.",
    "NoSuchBucket": "The store's buckets are not set up: tell the API's owner.",
    "InvalidAccessKeyId": "The API server signs with keys that the store does not know.",
    "SignatureDoesNotMatch": "The policy's fields were changed on the way, or wrongly signed.",
}


class _Passing(StoreError):
    """A failure that may pass."""


async def upload_object(
    http: httpx.AsyncClient,
    policy: UploadPolicy,
    key: str,
    body: bytes,
    *,
    content_type: str = "application/octet-stream",
    attempts: int = ATTEMPTS,
) -> None:
    """Write one object with a policy. Returns once the store has it.

    Raises:
        UploadRefused: where the store refuses for good, or the key or size cannot be within the
            policy, which is found out before anything is sent (code ``KeyOutsidePolicy`` or
            ``EntityTooLarge``).
        StoreError: where the store could not be asked in ``attempts`` tries.
    """
    if not key.startswith(policy.prefix) or key == policy.prefix:
        raise UploadRefused(
            f"The key {key!r} is not within {policy.prefix!r}, which is all that this policy "
            "allows.",
            "KeyOutsidePolicy",
        )
    if len(body) > policy.max_bytes:
        raise UploadRefused(
            f"{key} has {len(body)} bytes; the policy allows {policy.max_bytes}.", "EntityTooLarge"
        )
    async for attempt in stamina.retry_context(
        on=_Passing,
        attempts=attempts,
        timeout=timedelta(minutes=5),
        wait_initial=0.2,
        wait_max=8,
        wait_jitter=1,
    ):
        with attempt:
            await send_form(http, policy, key, body, content_type=content_type)


async def send_form(
    http: httpx.AsyncClient,
    policy: UploadPolicy,
    key: str,
    body: bytes,
    *,
    content_type: str = "application/octet-stream",
) -> None:
    """One try, without looking at the policy first. Raises as ``upload_object`` does."""
    fields = {
        name: content_type if name.lower() == "content-type" else value
        for name, value in policy.fields.items()
    }
    fields["key"] = key
    name = key.rsplit("/", 1)[-1] or "file"
    try:
        async with http.stream(
            "POST",
            policy.url,
            data=fields,
            files={"file": (name, body, content_type)},
            # An error document is small, and need not be packed.
            headers={"Accept-Encoding": "identity"},
            timeout=_TIMEOUT,
            follow_redirects=False,
        ) as answer:
            status = answer.status_code
            document = b"" if status == 204 else await _beginning(answer)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise _Passing(
            f"{key} could not be uploaded to {policy.url}: {type(error).__name__} {error}. Check "
            "that the store can be reached from here, and try again."
        ) from error
    finally:
        http.cookies.clear()  # a store has no use for them, and httpx cannot send all back
    if status == 204:
        return
    code, message = _read_error(status, document)
    told = f"The store answered {status} {code} to the upload of {key}: {message}"
    if status >= 500 or status in (408, 429) or code in _PASSING_CODES:
        raise _Passing(f"{told} Try again later.")
    raise UploadRefused(f"{told} {_mend(code, message)}".rstrip(), code)


def _mend(code: str, message: str) -> str:
    if "expired" in message.lower():
        return "The deadline has passed: a policy for the current epoch is needed."
    if code == "AccessDenied":
        return "Key, metadata or time are not what the policy allows: ask the API for a new one."
    return _MENDS.get(code, "")


async def _beginning(answer: httpx.Response) -> bytes:
    """So much of an answer that one can see whether it is larger than an error document."""
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > _LONGEST_ERROR:
            break
    return bytes(body)


def _read_error(status: int, body: bytes) -> tuple[str, str]:
    """The code and the message of S3's error document; the status where there is none."""
    try:
        # Only a document without a DTD is read: entities have no place in an S3 error.
        if b"<!" in body or len(body) > _LONGEST_ERROR:
            raise ValueError("not an S3 error document")
        root = ET.fromstring(body)
    except (ET.ParseError, ValueError, LookupError):
        return f"HTTP{status}", "it sent no error document."
    names = {child.tag.rsplit("}", 1)[-1]: child.text or "" for child in root}
    message = names.get("Message", "").strip() or "no reason given"
    return names.get("Code", "") or f"HTTP{status}", message.rstrip(".")[:300] + "."
