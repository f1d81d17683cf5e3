"""Export: all that a third party needs to replay epochs, in a folder (mechanism 13).

A validator can make one: the API gives it the assignment, the frozen uploads and the results; the
chain gives the block.
"""

from pathlib import Path

import httpx

from sn46.chain.base import Chain
from sn46.client.api import ApiClient, BucketName
from sn46.mechanism.credibility import history_of
from sn46.mechanism.epochs import Epoch
from sn46.store.base import ReadableObject
from sn46.store.snapshot import MINER_DATA, VALIDATED_DATA, RemoteSnapshot, write_export
from sn46.validator.folder import ASSIGNMENT, CHAIN, epoch_folder, write_document
from sn46.validator.history import list_reports, reports_by_owner
from sn46.validator.historyfile import known_history, write_history


async def export_epoch(
    directory: Path, epoch: Epoch, *, api: ApiClient, chain: Chain, http: httpx.AsyncClient
) -> int:
    """Add one epoch to an export, with the reports on the 42 epochs before that its scores follow
    from; returns how many objects it has. The same again is harmless, and cheaper.

    Raises:
        ApiError: where the epoch is unknown, or its evidence deadline has not passed.
        StoreError: where an object cannot be read, or the folder cannot be written.
        ChainError: where the chain cannot be asked.
    """
    served = await api.epoch(epoch.id)
    view = await chain.view_at(epoch.end)
    count = 0
    names: dict[BucketName, str] = {"miners": MINER_DATA, "results": VALIDATED_DATA}
    for bucket, name in names.items():
        objects = await api.validator_read(epoch.id, bucket=bucket)
        count += await write_export(directory, name, RemoteSnapshot(http, objects))
    count += await _export_history(directory, epoch, api, http)
    folder = epoch_folder(directory, epoch.id)
    write_document(folder / CHAIN, view.to_json())
    write_document(folder / ASSIGNMENT, served.document)
    return count


async def _export_history(
    directory: Path, epoch: Epoch, api: ApiClient, http: httpx.AsyncClient
) -> int:
    """Add the reports on the epochs before; how many there are. What the export has is not asked
    for again: these reports were final before this epoch could be exported."""
    listed = known_history(directory, epoch.seconds)
    objects: list[ReadableObject] = []
    for past in history_of(epoch):
        if past.id in listed:
            continue
        found = await list_reports(api, past) or []
        owners = reports_by_owner((o.info for o in found), past)
        listed[past.id] = list(owners)
        keys = {info.key for info in owners.values()}
        objects += [o for o in found if o.info.key in keys]
    await write_export(directory, VALIDATED_DATA, RemoteSnapshot(http, objects))
    write_history(directory, epoch, listed)
    return sum(len(listed[past.id]) for past in history_of(epoch))
