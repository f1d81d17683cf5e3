"""What extrinsics do: the checks of the real runtime in their order, with its error names.

Source of the rules: the subtensor pallet's ``set_weights``, ``commit_timelocked_weights``,
``serve_axon`` and ``burned_register``. What this chain has not: balances, fees, emission, and
the recomputation of permits by stake, which are set from outside.
"""

from collections.abc import Callable
from typing import Any

from sn46.chain.local import commits
from sn46.chain.local.errors import DispatchError
from sn46.chain.local.file import Writer
from sn46.chain.local.neurons import append_or_replace
from sn46.chain.weights import U16_MAX

PALLET = "SubtensorModule"


class Runtime:
    """The calls that this chain knows, for its one subnet."""

    def __init__(self, netuid: int, tempo: int) -> None:
        self._netuid = netuid
        self._tempo = tempo
        self._calls: dict[str, Callable[[Writer, str, dict[str, Any]], list[dict[str, Any]]]] = {
            "set_weights": self._set_weights,
            "set_mechanism_weights": self._set_weights,
            "commit_timelocked_weights": self._commit,
            "commit_timelocked_mechanism_weights": self._commit,
            "serve_axon": self._serve_axon,
            "burned_register": self._register,
        }

    def knows(self, module: str, function: str) -> bool:
        return module == PALLET and function in self._calls

    def dispatch(
        self, writer: Writer, signer: str, function: str, params: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Run a call and return its events.

        Raises:
            DispatchError: with the runtime's error name; the caller rolls its changes back.
        """
        if int(params["netuid"]) != self._netuid:
            raise DispatchError("SubnetNotExists")
        if int(params.get("mecid", 0)) != 0:
            raise DispatchError("MechanismDoesNotExist")
        return self._calls[function](writer, signer, params)

    def _set_weights(
        self, writer: Writer, signer: str, params: dict[str, Any]
    ) -> list[dict[str, Any]]:
        if writer.value("hyper", "CommitRevealWeightsEnabled"):
            raise DispatchError("CommitRevealEnabled")
        uids = [int(uid) for uid in params["dests"]]
        values = [int(value) for value in params["weights"]]
        set_row(writer, signer, uids, values, int(params["version_key"]), limited=True)
        return [_event("WeightsSet", [self._netuid, writer.value("hotkey_uid", signer)])]

    def _commit(self, writer: Writer, signer: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        if not writer.value("hyper", "CommitRevealWeightsEnabled"):
            raise DispatchError("CommitRevealDisabled")
        uid = _uid_of(writer, signer)
        _check_stake(writer, signer)
        if not _rate_allows(writer, uid):
            raise DispatchError("CommittingWeightsTooFast")
        commits.commit(
            writer,
            self._tempo,
            signer,
            bytes.fromhex(str(params["commit"]).removeprefix("0x")),
            int(params["reveal_round"]),
            int(params["commit_reveal_version"]),
        )
        writer.put("last_update", str(uid), writer.block)
        return [_event("TimelockedWeightsCommitted", [signer, self._netuid])]

    def _serve_axon(
        self, writer: Writer, signer: str, params: dict[str, Any]
    ) -> list[dict[str, Any]]:
        _uid_of(writer, signer)
        ip, ip_type, port = int(params["ip"]), int(params["ip_type"]), int(params["port"])
        if ip_type not in (4, 6):
            raise DispatchError("InvalidIpType")
        # The real chain refuses the loopback address; a network on one machine lives there.
        if ip < 0 or ip >= (2**32 if ip_type == 4 else 2**128):
            raise DispatchError("InvalidIpAddress")
        if not 0 < port <= U16_MAX:
            raise DispatchError("InvalidPort")
        before = writer.value("axon", signer)
        limit = int(writer.value("hyper", "ServingRateLimit"))
        if before is not None and writer.block - before["block"] < limit:
            raise DispatchError("ServingRateLimitExceeded")
        fields = ("version", "ip", "port", "ip_type", "protocol", "placeholder1", "placeholder2")
        axon = {"block": writer.block} | {name: int(params[name]) for name in fields}
        writer.put("axon", signer, axon)
        return [_event("AxonServed", [self._netuid, signer])]

    def _register(
        self, writer: Writer, signer: str, params: dict[str, Any]
    ) -> list[dict[str, Any]]:
        if not writer.value("hyper", "NetworkRegistrationAllowed"):
            raise DispatchError("SubNetRegistrationDisabled")
        hotkey = str(params["hotkey"])
        owner = writer.value("owner", hotkey)
        if owner is not None and owner != signer:
            raise DispatchError("NonAssociatedColdKey")
        uid = append_or_replace(writer, hotkey, signer)
        return [_event("NeuronRegistered", [self._netuid, uid, hotkey])]


def set_revealed_row(
    writer: Writer, hotkey: str, uids: list[int], values: list[int], version_key: int
) -> None:
    """Set the weights of a commit that was opened: its own rate limit was the commit's."""
    set_row(writer, hotkey, uids, values, version_key, limited=False)


def set_row(
    writer: Writer,
    hotkey: str,
    uids: list[int],
    values: list[int],
    version_key: int,
    *,
    limited: bool,
) -> None:
    """Set a validator's row of weights.

    Raises:
        DispatchError: with the runtime's error names, checked in its order.
    """
    if len(uids) != len(values):
        raise DispatchError("WeightVecNotEqualSize")
    neurons = writer.items("uid_hotkey")
    if len(uids) > len(neurons):
        raise DispatchError("UidsLengthExceedUidsInSubNet")
    uid = _uid_of(writer, hotkey)
    _check_stake(writer, hotkey)
    required = int(writer.value("hyper", "WeightsVersionKey"))
    if required and version_key < required:
        raise DispatchError("IncorrectWeightVersionKey")
    if limited and not _rate_allows(writer, uid):
        raise DispatchError("SettingWeightsTooFast")
    if not writer.value("permit", str(uid)) and uids != [uid]:
        raise DispatchError("NeuronNoValidatorPermit")
    _check_vector(writer, uid, uids, values, neurons)
    top = max(values, default=0)
    scaled = [value * U16_MAX // top if top else 0 for value in values]
    writer.put("weights", str(uid), [list(pair) for pair in zip(uids, scaled, strict=True)])
    if limited:
        writer.put("last_update", str(uid), writer.block)


def _check_vector(
    writer: Writer, own: int, uids: list[int], values: list[int], neurons: dict[str, str]
) -> None:
    if len(set(uids)) != len(uids):
        raise DispatchError("DuplicateUids")
    if any(str(uid) not in neurons for uid in uids):
        raise DispatchError("UidVecContainInvalidOne")
    if uids == [own]:
        return
    if len(uids) < int(writer.value("hyper", "MinAllowedWeights")):
        raise DispatchError("WeightVecLengthIsLow")
    limit = int(writer.value("hyper", "MaxWeightsLimit"))
    if limit < U16_MAX and max(values, default=0) * U16_MAX > limit * sum(values):
        raise DispatchError("MaxWeightExceeded")


def _uid_of(writer: Writer, hotkey: str) -> int:
    uid = writer.value("hotkey_uid", hotkey)
    if uid is None:
        raise DispatchError("HotKeyNotRegisteredInSubNet")
    return int(uid)


def _check_stake(writer: Writer, hotkey: str) -> None:
    if int(writer.value("stake", hotkey) or 0) < int(writer.value("hyper", "StakeThreshold")):
        raise DispatchError("NotEnoughStakeToSetWeights")


def _rate_allows(writer: Writer, uid: int) -> bool:
    last = int(writer.value("last_update", str(uid)) or 0)
    return last == 0 or writer.block - last >= int(writer.value("hyper", "WeightsSetRateLimit"))


def _event(name: str, attributes: list[Any]) -> dict[str, Any]:
    return {"event": {"module_id": PALLET, "event_id": name, "attributes": attributes}}
