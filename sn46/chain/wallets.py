"""Wallets on disk, in the layout and format of the bittensor wallet, without its import.

``{path}/{name}/coldkey``, ``coldkeypub.txt`` and ``hotkeys/{hotkey}`` hold a key each, as JSON.
Reading one hotkey costs milliseconds here; importing the whole SDK costs half a second, and
many processes start at once.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import bittensor_core

from sn46.chain.errors import WalletError
from sn46.mechanism.signing import Signer

_core: Any = bittensor_core  # a compiled module without type information

DEFAULT_WALLET_PATH = "~/.bittensor/wallets"


@dataclass(frozen=True)
class LocalWallet:
    """A wallet whose two keys are both at hand, for a local network and for tests."""

    hotkey: Signer
    coldkey: Signer


def load_hotkey(name: str, hotkey: str, path: str | Path = DEFAULT_WALLET_PATH) -> Signer:
    """The hotkey of a wallet, ready to sign. It is a bittensor ``Keypair``.

    Raises:
        WalletError: where the file is missing, encrypted, or is not a key with a private part.
    """
    file = _folder(path, name) / "hotkeys" / hotkey
    keypair = _read(file)
    try:
        keypair.sign(b"")
    except ValueError as error:
        raise WalletError(
            f"{file} holds a public key only, and nothing can be signed with it. Put the hotkey "
            "itself there, or regenerate it from its mnemonic."
        ) from error
    return cast(Signer, keypair)


def create_local_wallet(path: str | Path, name: str, hotkey: str, seed_bytes: bytes) -> LocalWallet:
    """Write a wallet, unencrypted, whose keys follow from ``seed_bytes`` and the names alone.

    Hotkeys of one ``name`` share its coldkey. Where the files are there already with these very
    keys, nothing is written. For a local network only: whoever knows the seed has the keys.

    Raises:
        WalletError: where a file is there with another key; it is left as it is.
    """
    if not seed_bytes:
        raise WalletError("A local wallet needs a seed of at least one byte.")
    coldkey = _derive(seed_bytes, f"coldkey:{name}")
    hot = _derive(seed_bytes, f"hotkey:{name}/{hotkey}")
    folder = _folder(path, name)
    _write(folder / "coldkey", coldkey)
    _write(folder / "coldkeypub.txt", _public(coldkey))
    _write(folder / "hotkeys" / hotkey, hot)
    _write(folder / "hotkeys" / f"{hotkey}pub.txt", _public(hot))
    return LocalWallet(hotkey=hot, coldkey=coldkey)


def _folder(path: str | Path, name: str) -> Path:
    return Path(path).expanduser() / name


def _derive(seed: bytes, purpose: str) -> Any:
    return _core.Keypair.create_from_seed(
        hmac.new(seed, purpose.encode(), hashlib.sha256).digest(), _core.CRYPTO_SR25519
    )


def _public(keypair: Any) -> Any:
    return _core.Keypair(
        ss58_address=keypair.ss58_address,
        public_key=bytes(keypair.public_key),
        crypto_type=keypair.crypto_type,
        ss58_format=keypair.ss58_format,
    )


def _read(file: Path) -> Any:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise WalletError(
            f"The key file {file} cannot be read ({error.strerror}). Check the wallet's name, "
            "its hotkey and its path, or create it with `btcli wallet new-hotkey`."
        ) from error
    if _core.keyfile_data_is_encrypted(data):
        raise WalletError(
            f"The key file {file} is encrypted. A service signs unattended, so its hotkey must "
            "be stored unencrypted, as bittensor wallets do by default."
        )
    try:
        return _core.deserialize_keypair_from_keyfile_data(data)
    except (_core.KeyfileError, ValueError) as error:
        raise WalletError(f"The key file {file} holds no key that can be read: {error}.") from error


def _write(file: Path, keypair: Any) -> None:
    if file.exists():
        if _read(file).ss58_address == keypair.ss58_address:
            return
        raise WalletError(
            f"{file} holds another key already. Choose another folder, or remove it yourself "
            "if it is not needed."
        )
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    # Not waited for until it is on the disk: the seed makes the same key again.
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(bytes(_core.serialized_keypair_to_keyfile_data(keypair)))
    temporary.replace(file)
