"""What the chain can refuse, as types. Each message says what happened and what to do."""

from datetime import timedelta

from sn46.chain.base import ChainError


class ChainUnreachable(ChainError):
    """The chain's endpoint did not answer. Nothing was changed: try again later."""


class ReadOnlyChain(ChainError):
    """A call that needs a hotkey, on a chain that was opened without one."""


class NotRegistered(ChainError):
    """This wallet's hotkey holds no uid on the subnet."""


class NoPermit(ChainError):
    """This wallet's hotkey holds no validator permit on the subnet."""


class RateLimited(ChainError):
    """The chain's own rate limit refused the call.

    ``blocks_left`` is how many blocks to wait, and ``wait`` how long that takes; None where the
    chain does not tell.
    """

    def __init__(
        self, message: str, blocks_left: int | None, wait: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.blocks_left = blocks_left
        self.wait = wait


class ExtrinsicRefused(ChainError):
    """The chain refused an extrinsic. ``name`` is the chain's own error name, if it gave one."""

    def __init__(self, message: str, name: str | None) -> None:
        super().__init__(message)
        self.name = name


class SubmissionUnknown(ChainError):
    """The connection broke after an extrinsic was sent, and it was not seen on the chain since.
    Where the chain could not be asked it may stand there: look with ``last_update`` before trying
    again."""


class WeightsMismatch(ChainError):
    """What stands on the chain since ``block`` is not what was meant: set the weights again."""

    def __init__(self, message: str, block: int) -> None:
        super().__init__(message)
        self.block = block


class WalletError(ChainError):
    """A wallet's key file is missing, unreadable, encrypted, or holds another key."""
