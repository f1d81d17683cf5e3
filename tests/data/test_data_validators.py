"""What validators themselves publish, read by a reader: an epoch that was judged by their own
code, exported as they export it."""

import sys
from pathlib import Path

import pytest
from mechanism.builders import EPOCH, hotkey
from publishing import Publications, kept_of

from sn46.data.decoder import Decoder
from sn46.data.library import Library
from sn46.data.objects import FolderOrigin
from sn46.validator.examiner import Examiner

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_epoch_as_validators_publish_it(
    tmp_path: Path, cache: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "validator"), *sys.path])
    from exports import HONEST_VALIDATORS, make_scene

    examiner = Examiner(seconds=60, memory_mb=3_000)
    try:
        scene = await make_scene(examiner)
    finally:
        examiner.close()
    origin = FolderOrigin(await scene.write(tmp_path / "export"))
    library = Library(cache, origin.name)
    (kept,) = await library.refresh(origin, decoder, lambda done, of: None)
    assert kept.epoch_id == EPOCH.id
    assert kept.consensus_hash == scene.outcome.consensus_hash
    assert kept.winners == tuple(scene.outcome.winners)
    assert set(kept.agreeing) == {hotkey(name) for name in HONEST_VALIDATORS}
    assert kept.differing == {}
    assert kept.rows == 200


async def test_nothing_published(tmp_path: Path, cache: Path, decoder: Decoder) -> None:
    assert await kept_of(Publications(), tmp_path / "export", cache, decoder) == []
