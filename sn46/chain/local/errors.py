"""What can go wrong in the local chain's own handling."""

from sn46.chain.base import ChainError


class LocalChainError(ChainError):
    """A local chain's file that is missing, not one, or asked for something impossible."""


class DispatchError(Exception):
    """An included extrinsic that failed. ``name`` is the real runtime's error name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class PoolRejection(Exception):
    """An extrinsic that is not included at all. ``name`` is the node's error name."""

    def __init__(self, message: str, name: str | None) -> None:
        super().__init__(message)
        self.name = name
