"""Faults that a test or a rehearsal can order for the next submission."""

from enum import StrEnum


class Fault(StrEnum):
    """What goes wrong with the next extrinsic; each order is used up by one extrinsic."""

    LOST = "lost"
    """The connection breaks before the node has the extrinsic: it is never included."""

    TIMEOUT_AFTER_SUBMISSION = "timeout_after_submission"
    """The extrinsic is included, but the answer never arrives."""

    POOL_FULL = "pool_full"
    """The node's pool refuses it, as a busy node does."""
