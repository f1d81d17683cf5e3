"""Logs: one line an event, for people or as JSON, on standard error."""

import logging
import sys
from contextvars import ContextVar
from typing import Any, Final, Literal

import structlog

request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The request that is being answered; every line that is logged meanwhile names it."""


def configure_logs(form: Literal["console", "json"], level: str) -> None:
    """Set up structlog and the standard library's logging for this process.

    Libraries are heard from ``warning`` on, whatever ``level`` is.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _name_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The renderer's own tracebacks print local variables: seeds and keys among them.
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _name_request(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    if (named := request_id.get()) is not None:
        event["request_id"] = named
    return event
