"""Problem documents as the API answers with them, and those that several of its rooms raise."""

import orjson
from starlette.responses import Response

from sn46.problems import MEDIA_TYPE, Problem, unauthenticated

__all__ = ["MEDIA_TYPE", "Problem", "problem_response", "unauthenticated", "unknown_epoch"]


def problem_response(problem: Problem) -> Response:
    """The problem as it goes over the wire."""
    return Response(
        orjson.dumps(problem.to_json()),
        problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def unknown_epoch(text: str) -> Problem:
    return Problem(
        404,
        "unknown_epoch",
        f"There is no epoch {text[:40]!r} here, or it has not begun. Epoch ids look like "
        "2024-03-15-16:00; `current` and `previous` name the running and the last ended one.",
    )
