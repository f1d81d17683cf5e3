"""Asking the API politely: no more requests a minute than agreed, nothing twice that has a tag, and
no answer larger than any can be."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, cast

import httpx
import orjson

from sn46.certificates import trusted
from sn46.client.connected import Connected
from sn46.clock import Clock
from sn46.dashboard.reading import clean

MOST_BYTES: Final = 32 * 1024 * 1024
"""No answer that is asked for here comes near: the table of all ZIPs has 4 MB."""

_SECONDS: Final = 15.0
_MINUTE: Final = timedelta(minutes=1)
_TAGS: Final = 16
_LONGEST_WAIT: Final = 3_600


class AskError(Exception):
    """An answer that did not come, or was a refusal; the text says why, in a half sentence.
    ``retry_after`` is in seconds, where the API named it."""

    def __init__(self, text: str, *, status: int | None = None, retry_after: int | None = None):
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


class PaceReached(Exception):
    """As many requests were made as a minute may have; ``seconds`` from now there is room."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"room in {seconds:.0f} s")
        self.seconds = seconds


class Asker(Connected):
    """Asks one API. Use it within one event loop, as an asynchronous context."""

    def __init__(self, base_url: str, *, clock: Clock, most_a_minute: int) -> None:
        super().__init__(
            httpx.AsyncClient(
                base_url=base_url,
                timeout=_SECONDS,
                verify=trusted(),
                headers={"User-Agent": "sn46-dashboard"},
                follow_redirects=False,
            )
        )
        self._clock = clock
        self._most = most_a_minute
        self._asked: deque[datetime] = deque(maxlen=most_a_minute)
        self._tags: OrderedDict[str, str] = OrderedDict()
        self.requests = 0

    async def get(self, path: str, *accepted: int) -> bytes:
        """Ask for a path. ``accepted`` are statuses beside 200 whose body is wanted.

        Raises:
            AskError: where it is refused, or no answer comes.
            PaceReached: where the minute's requests are used up; nothing was asked then.
        """
        answer, body = await self._ask(path, {})
        if answer.status_code != 200 and answer.status_code not in accepted:
            raise _refusal(answer, body)
        return body

    async def changed(self, path: str, *, known: bool) -> bytes | None:
        """Ask for a path that has a tag. Where what was answered before is ``known`` and has not
        changed since, nothing is sent again, and this is None.

        Raises what ``get`` does.
        """
        tag = self._tags.get(path) if known else None
        answer, body = await self._ask(path, {} if tag is None else {"If-None-Match": tag})
        if tag is not None and answer.status_code == 304:
            self._tags.move_to_end(path)
            return None
        if answer.status_code != 200:
            raise _refusal(answer, body)
        self._remember(path, answer.headers.get("etag"))
        return body

    async def _ask(self, path: str, headers: Mapping[str, str]) -> tuple[httpx.Response, bytes]:
        self._count()
        try:
            async with self._http.stream("GET", path, headers=headers) as answer:
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise AskError(f"its answer to {path} is larger than any can be")
        except httpx.TimeoutException as error:
            raise AskError(f"no answer within {_SECONDS:.0f} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = clean(str(error), 120)
            raise AskError(f"{type(error).__name__}{f': {said}' if said else ''}") from error
        return answer, bytes(body)

    def _count(self) -> None:
        now = self._clock.now()
        if len(self._asked) == self._most and (since := now - self._asked[0]) < _MINUTE:
            raise PaceReached((_MINUTE - since).total_seconds())
        self._asked.append(now)
        self.requests += 1

    def _remember(self, path: str, tag: str | None) -> None:
        if tag is None or len(tag) > 200:
            return
        self._tags[path] = tag
        self._tags.move_to_end(path)
        while len(self._tags) > _TAGS:
            self._tags.popitem(last=False)


def _refusal(answer: httpx.Response, body: bytes) -> AskError:
    try:
        problem: Any = orjson.loads(body[:65_536])
    except orjson.JSONDecodeError:
        problem = None
    named = cast(dict[str, Any], problem) if isinstance(problem, dict) else {}
    said = clean(named.get("detail") or named.get("title") or "", 200).rstrip(".")
    asked = answer.headers.get("retry-after", "")
    wait = min(int(asked), _LONGEST_WAIT) if asked.isdecimal() and len(asked) < 10 else None
    text = f"it answers {answer.status_code}{f' ({said})' if said else ''}"
    return AskError(text, status=answer.status_code, retry_after=wait)
