"""The API's client for miners and validators: every request signed, every answer checked."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar, cast
from urllib.parse import quote

import httpx
import orjson

from sn46.certificates import trusted
from sn46.client.btauth import RequestSigner
from sn46.client.connected import Connected
from sn46.clock import Clock, SystemClock
from sn46.mechanism.assignment import Assignment, read_assignment
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.signing import Signer
from sn46.mechanism.submission import ObjectInfo
from sn46.mechanism.times import parse_time
from sn46.store.base import ReadableObject, UploadPolicy

Purpose = Literal["evidence", "results"]
BucketName = Literal["miners", "results", "reports"]
_T = TypeVar("_T")
Status = Literal["in_progress", "completed", "failed", "timeout"]

_PREFIX = "/api/v1"
_PIECES = 4
_NOTICED_SKEW = timedelta(seconds=5)


class ApiError(Exception):
    """The API answered, and refused.

    ``code`` is the stable code of the problem document, ``retry_after`` in seconds where the API
    names it.
    """

    def __init__(self, code: str, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(f"The API refuses ({status} {code}): {detail}")
        self.code = code
        self.status = status
        self.detail = detail
        self.retry_after = retry_after


class ApiUnavailable(Exception):
    """The API could not be reached, or is not fit to answer; trying later may help."""

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class ReceivedAssignment:
    """A verified assignment with the document it came in, which can be kept and relayed."""

    assignment: Assignment
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Retries:
    """How often and how patiently a request is repeated.

    Attempts are spaced by ``first`` × 2^n seconds up to ``longest``, each with up to as much
    again at random, so that many clients do not come back at once. A Retry-After up to
    ``patience`` is waited for; one beyond it ends the attempts.
    """

    attempts: int = 5
    first: timedelta = timedelta(seconds=0.5)
    longest: timedelta = timedelta(seconds=30)
    patience: timedelta = timedelta(seconds=60)

    def pause(self, attempt: int, retry_after: int | None) -> timedelta | None:
        """How long to wait after a failed attempt (from 1); None where to give up."""
        if attempt >= self.attempts:
            return None
        backoff = min(self.longest, self.first * 2 ** (attempt - 1)) * (1 + random.random())
        if retry_after is None:
            return backoff
        asked = timedelta(seconds=retry_after)
        return None if asked > self.patience else max(asked, min(backoff, self.first))


class ApiClient(Connected):
    """One hotkey's view of the API. Requests carry btauth/1 bound to the API's hotkey; each
    attempt is signed anew. Use it within one event loop, as an async context manager or with
    ``close``.

    Every method raises ApiError where the API refuses and ApiUnavailable where it cannot be
    reached after all retries.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_hotkey: str,
        signer: Signer,
        clock: Clock | None = None,
        retries: Retries | None = None,
        timeout_seconds: float = 30.0,
        heard: Callable[[str | None, timedelta], None] | None = None,
    ) -> None:
        """``base_url`` is the server's address without a path; ``api_hotkey`` is the one whose
        assignments are trusted and to whom requests are addressed; ``heard`` is given the Date of
        each answer and how long it took."""
        super().__init__(
            httpx.AsyncClient(
                base_url=base_url.rstrip("/"), timeout=timeout_seconds, verify=trusted()
            )
        )
        self._api_hotkey = api_hotkey
        self._clock = clock or SystemClock()
        self._signer = RequestSigner(signer, self._clock)
        self._retries = retries or Retries()
        self._heard = heard
        # httpx's own limit is for each piece of an answer: one that drips would never end.
        self._most_seconds = _PIECES * timeout_seconds

    @property
    def hotkey(self) -> Hotkey:
        """Whose requests these are."""
        return self._signer.hotkey

    async def current(self) -> ReceivedAssignment:
        """The running epoch's assignment.

        Raises:
            AssignmentError: where it is not signed by the trusted API, or of another version.
        """
        return self._received(await self._send("GET", "/zipcode-assignments/current"))

    async def epoch(self, epoch_id: str) -> ReceivedAssignment:
        """An epoch's assignment, for validators; ``previous`` is the last ended one.

        Raises:
            AssignmentError: as ``current``.
        """
        return self._received(
            await self._send("GET", f"/zipcode-assignments/epoch/{quote(epoch_id)}")
        )

    async def report_status(
        self,
        *,
        epoch_id: EpochId,
        nonce: str,
        status: Status,
        listings_found: int,
        s3_upload_complete: bool,
        zipcodes_completed: int | None = None,
    ) -> None:
        """Say how far this miner is."""
        await self._send(
            "POST",
            "/zipcode-assignments/status",
            {
                "epoch_id": epoch_id,
                "miner_hotkey": self.hotkey,
                "nonce": nonce,
                "status": status,
                "listings_found": listings_found,
                "zipcodes_completed": zipcodes_completed,
                "s3_upload_complete": s3_upload_complete,
            },
        )

    async def miner_upload(self, epoch_id: EpochId | None = None) -> UploadPolicy:
        """The upload policy for this miner's folder of the current epoch (409 where ``epoch_id``
        is another)."""
        body = {} if epoch_id is None else {"epoch_id": epoch_id}
        return _parsed(_policy, await self._send("POST", "/s3-access/miner-upload", body))

    async def validator_upload(self, epoch_id: EpochId, purpose: Purpose) -> UploadPolicy:
        """The upload policy for this validator's evidence or results of an epoch."""
        body = {"epoch_id": epoch_id, "purpose": purpose}
        return _parsed(_policy, await self._send("POST", "/s3-access/validator-upload", body))

    async def validator_read(
        self, epoch_id: EpochId, bucket: BucketName | Literal["own"] = "miners"
    ) -> list[ReadableObject]:
        """All of an epoch's frozen objects, sorted by key. Where the deadline passed only now, it
        waits until the API shows them. ``own`` is what this hotkey has in the results bucket."""
        objects: list[ReadableObject] = []
        cursor: str | None = None
        while True:
            body = {"epoch_id": epoch_id, "cursor": cursor}
            page = await self._send("POST", f"/s3-access/validator-read?bucket={bucket}", body)
            found, cursor = _parsed(_page, page)
            objects.extend(found)
            if cursor is None:
                return objects

    async def announce(
        self,
        *,
        epoch_id: EpochId,
        consensus_hash: str,
        assignment_hash: str,
        top_3: list[Hotkey],
        participants: int,
        reached_95: int,
    ) -> Mapping[str, Any]:
        """Announce this validator's report, which must lie in the bucket. Can be repeated."""
        return await self._send(
            "POST",
            "/validation-results",
            {
                "epoch_id": epoch_id,
                "consensus_hash": consensus_hash,
                "assignment_hash": assignment_hash,
                "top_3": top_3,
                "participants": participants,
                "reached_95": reached_95,
            },
        )

    async def results(self, epoch_id: str) -> Mapping[str, Any]:
        """An epoch's announced reports and their agreement."""
        return await self._send("GET", f"/validation-results/{quote(epoch_id)}")

    async def stats(self) -> Mapping[str, Any]:
        """The public statistics."""
        return await self._send("GET", "/zipcode-assignments/stats")

    def _received(self, document: dict[str, Any]) -> ReceivedAssignment:
        return ReceivedAssignment(read_assignment(document, self._api_hotkey), document)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        content = b"" if body is None else orjson.dumps(body)
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(method, f"{_PREFIX}{path}", content)
            except (ApiUnavailable, ApiError) as error:
                pause = None
                if isinstance(error, ApiUnavailable) or _may_pass(error):
                    pause = self._retries.pause(attempt, error.retry_after)
                if pause is None:
                    raise
                await self._clock.sleep(pause)

    async def _attempt(self, method: str, target: str, content: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = self._http.build_request(method, target, content=content, headers=headers)
        request.headers.update(
            self._signer.headers(
                method=method,
                target=request.url.raw_path.decode(),
                body=content,
                receiver=self._api_hotkey,
            )
        )
        try:
            async with asyncio.timeout(self._most_seconds):
                answer = await self._http.send(request)
        except TimeoutError:
            raise ApiUnavailable(
                f"The API at {self._http.base_url} did not end its answer within "
                f"{self._most_seconds:g} s."
            ) from None
        except httpx.HTTPError as error:
            raise ApiUnavailable(
                f"The API at {self._http.base_url} cannot be reached ({type(error).__name__}: "
                f"{error}). Check the address and that the server runs."
            ) from error
        finally:
            self._http.cookies.clear()  # every request is signed, and httpx cannot send all back
        return self._read(answer)

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        document = _json_object(answer.content)
        if self._heard is not None and document is not None:
            self._heard(answer.headers.get("date"), answer.elapsed)
        if answer.status_code < 300:
            if document is None:
                raise ApiUnavailable("The API's answer is not a JSON object; is it the API?")
            return document
        problem = document or {}
        detail = str(problem.get("detail", "no reason given"))
        retry_after = _seconds(answer.headers.get("retry-after"))
        if answer.status_code >= 500:
            raise ApiUnavailable(
                f"The API is not fit to answer ({answer.status_code}): {detail}", retry_after
            )
        if answer.status_code == 401:
            detail += self._skew_hint(answer)
        code = str(problem.get("code", "unknown"))
        raise ApiError(code, answer.status_code, detail, retry_after)

    def _skew_hint(self, answer: httpx.Response) -> str:
        """A wrong clock is the usual reason for a refused signature: say so where it is one."""
        try:
            theirs = parsedate_to_datetime(answer.headers["date"])
            ours: datetime = self._clock.now()
            skew = ours - theirs
        except (KeyError, ValueError, TypeError, OverflowError):
            return ""
        if abs(skew) < _NOTICED_SKEW:
            return ""
        direction = "ahead of" if skew > timedelta(0) else "behind"
        seconds = abs(skew.total_seconds())
        return f" This machine's clock is {seconds:.0f} s {direction} the API's: set it right."


def _may_pass(error: ApiError) -> bool:
    """Whether a refusal is over after a while: a limit, or a deadline about to pass. No nonce is
    used twice here, so one that was seen before was repeated on its way, by a proxy whose first
    server died over it: signed anew it is welcome."""
    if error.code == "replayed_request":
        return True
    return error.status == 429 or (error.status == 409 and error.retry_after is not None)


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return cast(dict[str, Any], document) if isinstance(document, dict) else None


def _seconds(text: str | None) -> int | None:
    # Nine digits are thirty years; more of them would be no time that a clock could wait for.
    return int(text[:9]) if text is not None and text.isascii() and text.isdecimal() else None


def _parsed(parse: Callable[[Mapping[str, Any]], _T], document: Mapping[str, Any]) -> _T:
    try:
        return parse(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ApiUnavailable(
            f"The API's answer cannot be read ({error!r}); its version may be another than ours."
        ) from error


def _page(document: Mapping[str, Any]) -> tuple[list[ReadableObject], str | None]:
    cursor = document["next_cursor"]
    objects = [_readable(entry) for entry in document["objects"]]
    return objects, None if cursor is None else str(cursor)


def _policy(document: Mapping[str, Any]) -> UploadPolicy:
    return UploadPolicy(
        url=str(document["url"]),
        fields={str(k): str(v) for k, v in document["fields"].items()},
        prefix=str(document["prefix"]),
        expires_at=parse_time(document["expires_at"]),
        max_bytes=int(document["max_bytes"]),
    )


def _readable(entry: Mapping[str, Any]) -> ReadableObject:
    info = ObjectInfo(
        key=str(entry["key"]),
        size=int(entry["size"]),
        last_modified=parse_time(entry["last_modified"]),
        metadata={str(k): str(v) for k, v in entry["metadata"].items()},
    )
    return ReadableObject(info, str(entry["url"]))
