"""Free ports for services that must keep theirs over restarts."""

import random
import socket
from collections.abc import Collection, Mapping

from sn46.localnet.errors import LocalnetError
from sn46.processes import port_is_free

HOST = "127.0.0.1"
# Below Linux's ephemeral ports: no outgoing connection takes one between looking and listening.
# Above the range in which the embedded S3 server looks for its own.
_RANGE = range(22_800, 32_700)
_TRIES = 500


def choose_ports(
    names: Collection[str], *, wanted: Mapping[str, int], remembered: Mapping[str, int]
) -> dict[str, int]:
    """A port for each name: the one that its user wants (whether it is free shows when the
    service starts), else the remembered one where that is free, else a free one.

    Raises:
        LocalnetError: where no free port is found.
    """
    ports = {name: wanted[name] for name in names if name in wanted}
    for name in names:
        if name in ports:
            continue
        known = remembered.get(name)
        if known is not None and known not in ports.values() and port_is_free(known, HOST):
            ports[name] = known
        else:
            ports[name] = _free_port(ports.values())
    return ports


def own_address(group: int, number: int) -> str | None:
    """The loopback address 127.0.GROUP.NUMBER; None where this machine has no such addresses
    (Linux answers for all of 127.0.0.0/8, other systems for 127.0.0.1 alone)."""
    address = f"127.0.{group}.{number}"
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return None
    return address


def _free_port(taken: Collection[int]) -> int:
    for port in random.SystemRandom().sample(_RANGE, _TRIES):
        if port not in taken and port_is_free(port, HOST):
            return port
    raise LocalnetError(f"No free port was found among {_TRIES} tried. Set one with an option.")
