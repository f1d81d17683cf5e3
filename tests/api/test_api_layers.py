"""The benchmark that takes a request apart goes the server's own way through it, layer by layer:
where a layer asks for more than it is given there, nothing else would notice."""

import importlib
from pathlib import Path

import pytest


async def test_a_request_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    layers = importlib.import_module("benchmarks.layers")
    for name, small in (("_HOTKEYS", 4), ("_REQUESTS", 8), ("_ROUNDS", 1)):
        monkeypatch.setattr(layers, name, small)
    monkeypatch.setattr(layers, "configure_logs", lambda *_: None)
    found = await layers.layers()
    assert [name.split(",")[0] for name in found] == [
        "replay protection", "registration", "assignment", "routing",
    ]  # fmt: skip
    assert all(micros >= 0 for micros in found.values())
