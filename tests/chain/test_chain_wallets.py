"""Wallets on disk: ours, and the bittensor wallet's, are the same files."""

import bittensor
import pytest

from sn46.chain.errors import WalletError
from sn46.chain.wallets import create_local_wallet, load_hotkey
from sn46.mechanism.signing import sign_document, verify_document


def test_keys_follow_from_the_seed_and_the_names(tmp_path):
    first = create_local_wallet(tmp_path / "a", "miner", "h1", b"seed")
    again = create_local_wallet(tmp_path / "b", "miner", "h1", b"seed")
    other = create_local_wallet(tmp_path / "a", "miner", "h2", b"seed")
    seeded = create_local_wallet(tmp_path / "c", "miner", "h1", b"another")
    assert first.hotkey.ss58_address == again.hotkey.ss58_address
    assert other.hotkey.ss58_address != first.hotkey.ss58_address
    assert other.coldkey.ss58_address == first.coldkey.ss58_address
    assert seeded.hotkey.ss58_address != first.hotkey.ss58_address
    assert create_local_wallet(tmp_path / "a", "miner", "h1", b"seed") is not None


def test_a_loaded_hotkey_signs(tmp_path):
    made = create_local_wallet(tmp_path, "miner", "h1", b"seed")
    hotkey = load_hotkey("miner", "h1", tmp_path)
    assert hotkey.ss58_address == made.hotkey.ss58_address
    assert verify_document(sign_document({"a": 1}, hotkey), hotkey.ss58_address)


def test_the_bittensor_wallet_reads_ours(tmp_path):
    made = create_local_wallet(tmp_path, "miner", "h1", b"seed")
    wallet = bittensor.Wallet("miner", "h1", str(tmp_path))
    assert wallet.hotkey.ss58_address == made.hotkey.ss58_address
    assert wallet.coldkey.ss58_address == made.coldkey.ss58_address
    assert wallet.coldkeypub.ss58_address == made.coldkey.ss58_address
    assert wallet.hotkeypub.ss58_address == made.hotkey.ss58_address
    assert (tmp_path / "miner" / "hotkeys" / "h1").stat().st_mode & 0o777 == 0o600


def test_we_read_the_bittensor_wallets(tmp_path):
    wallet = bittensor.Wallet("theirs", "h1", str(tmp_path))
    wallet.create_new_hotkey(suppress=True)
    assert load_hotkey("theirs", "h1", tmp_path).ss58_address == wallet.hotkey.ss58_address


def test_another_key_is_never_overwritten(tmp_path):
    create_local_wallet(tmp_path, "miner", "h1", b"seed")
    with pytest.raises(WalletError, match="another key"):
        create_local_wallet(tmp_path, "miner", "h1", b"other")
    with pytest.raises(WalletError, match="seed"):
        create_local_wallet(tmp_path, "new", "h1", b"")


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(WalletError, match="hotkeys/h9"):
        load_hotkey("miner", "h9", tmp_path)
    wallet = bittensor.Wallet("locked", "h1", str(tmp_path))
    wallet.create_new_hotkey(use_password=True, hotkey_password="secret", suppress=True)
    with pytest.raises(WalletError, match="encrypted"):
        load_hotkey("locked", "h1", tmp_path)
    create_local_wallet(tmp_path, "miner", "h1", b"seed")
    with pytest.raises(WalletError, match="public key only"):
        load_hotkey("miner", "h1pub.txt", tmp_path)
    (tmp_path / "miner" / "hotkeys" / "junk").write_text("nothing")
    with pytest.raises(WalletError, match="junk"):
        load_hotkey("miner", "junk", tmp_path)
