"""Reading validators' published reports, one object at a time, out of the bucket of results."""

from typing import Protocol

import obstore
from obstore.exceptions import BaseError

from sn46.dashboard.reading import Unreadable
from sn46.mechanism.agreement import MAX_REPORT_BYTES
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.submission import validator_prefix
from sn46.store.base import StoreError
from sn46.store.s3 import S3Access, store_error


class Reports(Protocol):
    """Where published reports lie."""

    async def read(self, validator: Hotkey, epoch_id: EpochId) -> bytes:
        """The bytes of a report.

        Raises:
            Unreadable: where there is none, or it is larger than any report.
            StoreError: where the bucket cannot be read now.
        """
        ...


class BucketReports:
    """``Reports`` of the bucket of results. Nothing is listed: what there is, the API says."""

    def __init__(self, access: S3Access, bucket: str) -> None:
        self._access, self._bucket = access, bucket
        self._store = access.store(bucket)

    async def read(self, validator: Hotkey, epoch_id: EpochId) -> bytes:
        key = f"{validator_prefix(validator, epoch_id)}validation_report.json"
        try:
            result = await obstore.get_async(self._store, key)
            if result.meta["size"] > MAX_REPORT_BYTES:
                raise Unreadable("the report is larger than any can be")
            return bytes(await result.bytes_async())
        except FileNotFoundError as error:
            raise Unreadable("the report that was announced is not in the bucket") from error
        except BaseError as error:
            what = f"read {key} in the bucket {self._bucket}"
            if self._access.public and any(s in str(error) for s in ("AccessDenied", "403")):
                raise StoreError(f"Could not {what}: it is not open to everyone.") from error
            raise store_error(error, what, self._access) from error
