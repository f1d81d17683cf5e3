"""Registering neurons: what the runtime writes when a hotkey takes a uid."""

from sn46.chain.local.errors import DispatchError
from sn46.chain.local.file import Writer


def append_or_replace(writer: Writer, hotkey: str, coldkey: str) -> int:
    """Give a hotkey the next free uid, or on a full subnet that of the neuron the chain prunes.

    The real chain prunes by emission, which this chain has not: here it is the neuron with the
    least stake among those without a permit, the one registered first among equals, never the
    subnet owner's.

    Raises:
        DispatchError: already registered, or nobody can be pruned.
    """
    if writer.value("hotkey_uid", hotkey) is not None:
        raise DispatchError("HotKeyAlreadyRegisteredInSubNet")
    taken = writer.items("uid_hotkey")
    if len(taken) < int(writer.value("hyper", "MaxAllowedUids")):
        uid = len(taken)
        _seat(writer, uid, hotkey, coldkey)
        return uid
    uid = _prunable(writer, taken)
    replace(writer, uid, hotkey, coldkey)
    return uid


def replace(writer: Writer, uid: int, hotkey: str, coldkey: str) -> None:
    """Pass a uid on. As on the real chain, the weights set by and for it are cleared with it."""
    old = writer.value("uid_hotkey", str(uid))
    writer.put("hotkey_uid", old, None)
    writer.put("axon", old, None)
    writer.put("weights", str(uid), None)
    for validator, row in writer.items("weights").items():
        cleared = [[target, 0 if target == uid else value] for target, value in row]
        if cleared != row:
            writer.put("weights", validator, cleared)
    _seat(writer, uid, hotkey, coldkey)


def _seat(writer: Writer, uid: int, hotkey: str, coldkey: str) -> None:
    writer.put("uid_hotkey", str(uid), hotkey)
    writer.put("hotkey_uid", hotkey, uid)
    writer.put("owner", hotkey, coldkey)
    writer.put("permit", str(uid), False)
    writer.put("last_update", str(uid), writer.block)
    writer.put("registered_at", str(uid), writer.block)


def _prunable(writer: Writer, taken: dict[str, str]) -> int:
    permits = writer.items("permit")
    stakes = writer.items("stake")
    registered = writer.items("registered_at")
    owner = writer.value("subnet", "owner_hotkey")
    candidates = [uid for uid, key in taken.items() if not permits.get(uid) and key != owner]
    if not candidates:
        raise DispatchError("NoNeuronIdAvailable")
    return int(
        min(candidates, key=lambda uid: (stakes.get(taken[uid], 0), registered[uid], int(uid)))
    )
