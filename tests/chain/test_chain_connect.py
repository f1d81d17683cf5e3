"""One door to any chain."""

import subprocess
import sys

import pytest

from sn46.chain.base import ChainError
from sn46.chain.connect import open_chain
from sn46.chain.errors import ChainUnreachable


async def test_a_local_chain_by_its_path(network):
    chain = open_chain(
        f"local:{network.local.path}",
        netuid=46,
        signer=network.wallets["vali"].hotkey,
        clock=network.clock,
    )
    receipt = await chain.set_weights({network.hotkey("ann"): 1_000_000})
    assert receipt.on_chain == {network.hotkey("ann"): 1_000_000}
    assert (await chain.view()).block.number >= receipt.block
    await chain.close()
    assert (await chain.view()).netuid == 46, "it connects again after a close"
    await chain.close()


@pytest.mark.parametrize("endpoint", ["", "local:", "mainnet", "https://example.org"])
def test_an_endpoint_of_no_known_form(endpoint):
    with pytest.raises(ChainError, match="known form"):
        open_chain(endpoint, netuid=46)


async def test_a_node_that_is_not_there_is_unreachable(unused_tcp_port):
    chain = open_chain(f"ws://127.0.0.1:{unused_tcp_port}", netuid=46)
    with pytest.raises(ChainUnreachable):
        await chain.view()
    await chain.close()


def test_opening_a_chain_does_not_import_the_sdk():
    """Half a second a process, and twenty start at once: it comes with the first call."""
    code = (
        "import sys, sn46.chain.connect as c, sn46.chain.wallets, sn46.chain.local;"
        "c.open_chain('finney', netuid=46);"
        "print('bittensor' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
