"""Export: all that a third party needs to replay epochs, in a folder (mechanism 13).

A validator can make one: the API gives it the assignment, the frozen uploads and the results; the
chain gives the block.
"""

from pathlib import Path

import httpx

from sn46.chain.base import Chain
from sn46.client.api import ApiClient, BucketName
from sn46.mechanism.epochs import Epoch
from sn46.store.snapshot import MINER_DATA, VALIDATED_DATA, RemoteSnapshot, write_export
from sn46.validator.folder import ASSIGNMENT, CHAIN, epoch_folder, write_document


async def export_epoch(
    directory: Path, epoch: Epoch, *, api: ApiClient, chain: Chain, http: httpx.AsyncClient
) -> int:
    """Add one epoch to an export; returns how many objects it has. The same again is harmless.

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
    folder = epoch_folder(directory, epoch.id)
    write_document(folder / CHAIN, view.to_json())
    write_document(folder / ASSIGNMENT, served.document)
    return count
