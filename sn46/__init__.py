"""The ZIP-code competition of Bittensor subnet 46."""

__version__ = "0.1.0"
