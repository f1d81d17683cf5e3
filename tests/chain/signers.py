"""Hotkeys that do something when they sign."""


class WatchedSigner:
    """A hotkey that lets the test act between the SDK's checks and the submission."""

    def __init__(self, keypair, act) -> None:
        self._keypair = keypair
        self._act = act
        self.ss58_address = keypair.ss58_address
        self.public_key = keypair.public_key
        self.crypto_type = keypair.crypto_type

    def sign(self, payload: bytes) -> bytes:
        self._act()
        return self._keypair.sign(payload)
