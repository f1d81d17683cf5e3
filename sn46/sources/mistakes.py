"""Errors that no source should raise, as an adapter of another package may."""

import traceback
from pathlib import Path

import structlog

_log = structlog.get_logger()


def told_mistake(name: str, error: Exception) -> str:
    """Log an error that is none of ``SourceError``, and say it: its kind and place, and not its
    text, which may hold anything."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    _log.error("a source made a mistake", source=name, error=type(error).__name__, at=place)
    return f"the source {name} made a mistake: {type(error).__name__} at {place}"
