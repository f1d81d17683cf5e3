"""What a validator's relay answers, and to whom."""

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from sn46.client.btauth import SignedRequest, check_first, verify_request
from sn46.client.metagraph import Metagraph
from sn46.client.relay import ASSIGNMENT_PATH, HEALTH_PATH
from sn46.clock import Clock
from sn46.mechanism.names import Hotkey
from sn46.problems import Problem
from sn46.validator.relay_agreement import Tally
from sn46.validator.relay_assignments import Assignments
from sn46.validator.relay_server import Answer, Request

PER_HOTKEY: Final = 30
PER_ADDRESS: Final = 60
WINDOW: Final = timedelta(minutes=1)
MAX_AGE_SECONDS: Final = 10
SKEW_SECONDS: Final = 2
_MOST_CALLERS: Final = 4096
_RETRY_SECONDS: Final = 10


class RelayDesk:
    """Answers requests, each at once. In this order: is it signed, by whom that is registered,
    never seen before, and within that hotkey's allowance? What fails before the last counts against
    its address, so nobody uses up another's allowance.

    What is remembered is bounded: nonces are kept of requests that were let through alone, so many
    a minute of each registered hotkey.
    """

    def __init__(
        self,
        assignments: Assignments,
        metagraph: Metagraph,
        *,
        own: Hotkey,
        clock: Clock,
    ) -> None:
        self._assignments = assignments
        self._metagraph = metagraph
        self._own = own
        self._clock = clock
        self._hotkeys = Windows(PER_HOTKEY)
        self._addresses = Windows(PER_ADDRESS)
        self._seen = Seen(timedelta(seconds=MAX_AGE_SECONDS + SKEW_SECONDS + 5))
        self.tally: Tally | None = None
        """How far validators agree, as last compared."""

    def answer(self, request: Request) -> Answer:
        """
        Raises:
            Problem: where there is no answer but why.
        """
        routes = {ASSIGNMENT_PATH: self._assignment, HEALTH_PATH: self._health}
        route = routes.get(request.path)
        if route is None:
            self._addresses.count(request.address, self._clock.now())
            raise Problem(
                404, "not_found", f"A relay answers at {ASSIGNMENT_PATH} and {HEALTH_PATH}."
            )
        if request.method != "GET":
            self._addresses.count(request.address, self._clock.now())
            raise Problem(
                405, "method_not_allowed", "A relay is asked with GET.", headers={"Allow": "GET"}
            )
        return route(request)

    def _assignment(self, request: Request) -> Answer:
        self._let_through(request)
        held = self._assignments.latest()
        if held is None:
            raise Problem(
                404,
                "no_assignment",
                "This validator holds no assignment that is young enough. Ask others.",
                retry_after=_RETRY_SECONDS,
            )
        headers = {"ETag": f'"{held.hash}"', "Cache-Control": "private, no-cache"}
        return Answer(200, held.body, headers=headers)

    def _health(self, request: Request) -> Answer:
        self._addresses.count(request.address, self._clock.now())
        held, tally = self._assignments.latest(), self.tally
        body: dict[str, Any] = {
            "status": "ok",
            "hotkey": self._own,
            "epoch_id": None if held is None else held.epoch_id,
            "assignment_hash": None if held is None else held.hash,
            "agreement": None if tally is None else tally.to_json(),
        }
        return Answer(200, orjson.dumps(body))

    def _let_through(self, request: Request) -> None:
        now = self._clock.now()
        try:
            signed = verify_request(
                request.headers,
                request.body,
                method=request.method,
                target=request.target,
                receiver=self._own,
                now=now,
                max_age=MAX_AGE_SECONDS,
                skew=SKEW_SECONDS,
            )
            self._check_registered(signed)
            check_first(not self._seen.has(signed.key, now))
        except Problem as problem:
            if problem.status in (401, 403):
                self._addresses.count(request.address, now)
            raise
        self._hotkeys.count(signed.hotkey, now)
        self._seen.add(signed.key, now)

    def _check_registered(self, signed: SignedRequest) -> None:
        view = self._metagraph.trusted()
        if not view.is_registered(signed.hotkey):
            raise Problem(
                403,
                "hotkey_not_registered",
                f"This hotkey is not registered on subnet {view.netuid} (as of block "
                f"{view.block.number}). Register it, and wait a minute or two.",
            )


class Windows:
    """Counts of callers in windows that begin with a caller's first request. Of more callers than
    are kept, the one that began longest ago is forgotten."""

    def __init__(self, most: int, *, callers: int = _MOST_CALLERS) -> None:
        self._most = most
        self._callers = callers
        self._counts: OrderedDict[str, tuple[datetime, int]] = OrderedDict()

    def count(self, caller: str, now: datetime) -> None:
        """Count one request.

        Raises:
            Problem: 429, where the allowance of this window is used up.
        """
        began, used = self._counts.get(caller, (now, 0))
        if now >= began + WINDOW:
            began, used = now, 0
        if used == 0:
            self._counts.pop(caller, None)
        self._counts[caller] = (began, used + 1)
        if len(self._counts) > self._callers:
            self._counts.popitem(last=False)
        if used >= self._most:
            seconds = max(1, round((began + WINDOW - now).total_seconds()))
            raise Problem(
                429,
                "too_many_requests",
                f"At most {self._most} such requests are answered per minute. Wait {seconds} s.",
                retry_after=seconds,
            )


class Seen:
    """Keys that were shown within the last while."""

    def __init__(self, keep: timedelta) -> None:
        self._keep = keep
        self._until: OrderedDict[str, datetime] = OrderedDict()

    def has(self, key: str, now: datetime) -> bool:
        while self._until and next(iter(self._until.values())) < now:
            self._until.popitem(last=False)
        return key in self._until

    def add(self, key: str, now: datetime) -> None:
        self._until[key] = now + self._keep
