"""What validators read of the buckets: frozen lists of objects with presigned addresses."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sn46.api.problems import Problem
from sn46.api.records import Records, StoredEpoch
from sn46.api.settings import ApiSettings
from sn46.clock import Clock
from sn46.mechanism.evidence import checks_key, evidence_key
from sn46.mechanism.report import data_key, metadata_key, report_key
from sn46.mechanism.submission import (
    manifest_key,
    miner_file_key,
    miner_prefix,
    validator_prefix,
)
from sn46.mechanism.times import format_time
from sn46.store.base import Bucket, ReadableObject

BucketName = Literal["miners", "results", "reports"]
"""What is listed: submissions; evidence and reports; reports alone, once all are final."""

PAGE = 1_000
_LISTS_AT_ONCE = 16
_KEPT: Mapping[BucketName, int] = {"miners": 8, "results": 8, "reports": 64}
"""How many lists of each kind are kept. Those of reports are short, and whoever is new here reads
42 of them; that must not push the others out."""

_LEAST_URL_SECONDS = 3_600
_MOST_URL_SECONDS = 7 * 86_400


@dataclass(frozen=True)
class Page:
    """Some of an epoch's objects, by key, and where the next page begins (None at the end)."""

    objects: Sequence[ReadableObject]
    next_cursor: str | None


@dataclass(frozen=True)
class _Listing:
    objects: tuple[ReadableObject, ...]
    fresh_until: datetime


class Reader:
    """Lists an epoch's objects once its deadline has passed, and keeps what cannot change."""

    def __init__(
        self,
        miners: Bucket,
        results: Bucket,
        records: Records,
        settings: ApiSettings,
        clock: Clock,
    ) -> None:
        self._miners = miners
        self._results = results
        self._records = records
        self._settings = settings
        self._clock = clock
        self._kept: Mapping[BucketName, OrderedDict[str, _Listing]] = {
            name: OrderedDict() for name in _KEPT
        }
        self._locks: dict[tuple[str, BucketName], asyncio.Lock] = {}

    async def page(self, stored: StoredEpoch, bucket: BucketName, cursor: str | None) -> Page:
        """One page of an epoch's objects.

        ``cursor`` is the last key of the page before.

        Raises:
            Problem: 409, before the deadline: nobody reads others' uploads while they can still
                be copied.
            StoreError: where the store cannot be asked.
        """
        self._check_frozen(stored, bucket)
        objects = await self._list(stored, bucket)
        rest = [o for o in objects if cursor is None or o.info.key > cursor]
        shown = rest[:PAGE]
        more = len(rest) > PAGE
        return Page(shown, shown[-1].info.key if more else None)

    async def own(self, stored: StoredEpoch, hotkey: str) -> Page:
        """What a validator itself uploaded for an epoch, as it is now: a validator that lost its
        disk goes on with that, rather than say something else than it did.

        Raises:
            StoreError: where the store cannot be asked.
        """
        keys = (checks_key, evidence_key, data_key, metadata_key, report_key)
        objects = await self._results.readable(
            validator_prefix(hotkey, stored.epoch_id),
            expires_in_seconds=int(self._url_life(stored).total_seconds()),
            among={key(hotkey, stored.epoch_id) for key in keys},
        )
        return Page(sorted(objects, key=lambda o: o.info.key), None)

    def _check_frozen(self, stored: StoredEpoch, bucket: BucketName) -> None:
        epoch = stored.epoch
        deadline, code = epoch.end, "epoch_not_ended"
        if bucket == "results":
            deadline, code = epoch.evidence_deadline, "evidence_open"
        elif bucket == "reports":
            deadline, code = epoch.results_deadline, "results_open"
        now = self._clock.now()
        # An upload that began in time may appear a moment later; all validators must see it.
        settled = deadline + self._settle(stored)
        if now < settled:
            raise Problem(
                409,
                code,
                f"The objects of epoch {epoch.id} can be read from {format_time(settled)}, when "
                "they no longer change.",
                retry_after=int((settled - now).total_seconds()) + 1,
            )

    def _settle(self, stored: StoredEpoch) -> timedelta:
        wanted = timedelta(seconds=self._settings.snapshot_settle_seconds)
        return min(wanted, stored.epoch.length / 32)

    async def _list(self, stored: StoredEpoch, bucket: BucketName) -> Sequence[ReadableObject]:
        key = (stored.epoch_id, bucket)
        async with self._locks.setdefault(key, asyncio.Lock()):
            kept = self._kept[bucket].get(stored.epoch_id)
            if kept is not None and self._clock.now() < kept.fresh_until:
                return kept.objects
            lister = {
                "miners": self._list_miners,
                "results": self._list_results,
                "reports": self._list_reports,
            }[bucket]
            listing = await lister(stored)
            self._keep(key, listing)
            return listing.objects

    async def _list_miners(self, stored: StoredEpoch) -> _Listing:
        hotkeys = await self._records.holders(stored.epoch_id, ["miner"])
        # A miner may fill its folder with what it likes; only what can count is listed.
        zipcodes = [zip_["zipcode"] for zip_ in json.loads(stored.document)["zipcodes"]]
        folders = {
            miner_prefix(hotkey, stored.epoch_id): {
                manifest_key(hotkey, stored.epoch_id),
                *(miner_file_key(hotkey, stored.epoch_id, zipcode) for zipcode in zipcodes),
            }
            for hotkey in hotkeys
        }
        objects = await self._collect(self._miners, folders, stored.epoch.end, stored)
        return _Listing(objects, self._clock.now() + self._url_life(stored) / 2)

    async def _list_results(self, stored: StoredEpoch) -> _Listing:
        epoch, now = stored.epoch, self._clock.now()
        hotkeys = await self._records.holders(epoch.id, ["evidence", "results"])
        folders = [validator_prefix(hotkey, epoch.id) for hotkey in hotkeys]
        evidence = await self._collect(
            self._results,
            dict.fromkeys(f"{f}evidence/" for f in folders),
            epoch.evidence_deadline,
            stored,
        )
        reports = await self._collect(
            self._results, dict.fromkeys(folders), epoch.results_deadline, stored
        )
        others = [o for o in reports if o.info.key.split("/")[3] != "evidence"]
        objects = tuple(sorted((*evidence, *others), key=lambda o: o.info.key))
        # Reports may still come until the results deadline, so the list is kept briefly.
        final = now >= epoch.results_deadline + self._settle(stored)
        life = self._url_life(stored) / 2 if final else epoch.length / 256
        return _Listing(objects, now + life)

    async def _list_reports(self, stored: StoredEpoch) -> _Listing:
        """The validation_report.json of each validator, as it was at the results deadline."""
        epoch = stored.epoch
        hotkeys = await self._records.holders(epoch.id, ["results"])
        folders = {validator_prefix(h, epoch.id): {report_key(h, epoch.id)} for h in hotkeys}
        objects = await self._collect(self._results, folders, epoch.results_deadline, stored)
        return _Listing(objects, self._clock.now() + self._url_life(stored) / 2)

    async def _collect(
        self,
        bucket: Bucket,
        folders: Mapping[str, Collection[str] | None],
        until: datetime,
        stored: StoredEpoch,
    ) -> tuple[ReadableObject, ...]:
        """What lies in these folders; of a folder with keys, only those."""
        seconds = int(self._url_life(stored).total_seconds())
        gate = asyncio.Semaphore(_LISTS_AT_ONCE)

        async def one(prefix: str, among: Collection[str] | None) -> list[ReadableObject]:
            async with gate:
                return await bucket.readable(
                    prefix, until=until, expires_in_seconds=seconds, among=among
                )

        lists = await asyncio.gather(*(one(*folder) for folder in folders.items()))
        return tuple(sorted((o for part in lists for o in part), key=lambda o: o.info.key))

    def _url_life(self, stored: StoredEpoch) -> timedelta:
        """Presigned addresses live for two epochs, and kept lists for half of that: whoever reads
        a list has at least an epoch's time to read the objects."""
        seconds = 2 * stored.epoch.seconds
        return timedelta(seconds=max(_LEAST_URL_SECONDS, min(_MOST_URL_SECONDS, seconds)))

    def _keep(self, key: tuple[str, BucketName], listing: _Listing) -> None:
        epoch_id, bucket = key
        kept = self._kept[bucket]
        kept[epoch_id] = listing
        kept.move_to_end(epoch_id)
        while len(kept) > _KEPT[bucket]:
            old, _ = kept.popitem(last=False)
            self._locks.pop((old, bucket), None)
