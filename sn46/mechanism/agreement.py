"""How far validators agree on an epoch (mechanism 10 and 11)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sn46.mechanism.canonical import hash_json
from sn46.mechanism.names import PPM, Hotkey, Ppm

MAX_REPORT_BYTES: Final = 8 * 1024 * 1024
"""A report on 256 miners has about 1 MB; a larger one than this is no report."""

ALERT_BELOW: Final = Ppm(PPM * 90 // 100)


@dataclass(frozen=True)
class Agreement:
    """Share of the reports that carry the most common value, in ppm; None without reports.

    ``consensus_hash`` is that value for the hash, ties by the smaller one.
    """

    reports: int
    hash_share: Ppm | None
    top_three_share: Ppm | None
    consensus_hash: str | None
    dissenting: tuple[Hotkey, ...]

    @property
    def alert(self) -> bool:
        """Whether agreement is below 90 %."""
        shares = (self.hash_share, self.top_three_share)
        return any(share is not None and share < ALERT_BELOW for share in shares)


def agreement_of(
    hashes: Mapping[Hotkey, str], top_three: Mapping[Hotkey, Sequence[str]]
) -> Agreement:
    """Agreement over an epoch's reports, by validator hotkey."""
    if not hashes:
        return Agreement(0, None, None, None, ())
    common, count = most_common(hashes)
    _, tops = most_common({v: "\n".join(top) for v, top in top_three.items()})
    return Agreement(
        reports=len(hashes),
        hash_share=Ppm(count * PPM // len(hashes)),
        top_three_share=Ppm(tops * PPM // len(top_three)) if top_three else None,
        consensus_hash=common,
        dissenting=tuple(sorted(v for v, value in hashes.items() if value != common)),
    )


def consensus_hash(epoch_id: str, scores: dict[Hotkey, Any], weights: dict[Hotkey, Any]) -> str:
    """Hash of the canonical JSON of ``{epoch_id, scores: {hotkey: final}, weights}``."""
    return hash_json({"epoch_id": epoch_id, "scores": scores, "weights": weights})


def most_common(values: Mapping[Hotkey, str]) -> tuple[str, int]:
    """The value that most have, ties by the smaller one, and how many; "" where there is none."""
    counted = Counter(values.values())
    if not counted:
        return "", 0
    best = max(counted.values())
    return min(value for value, count in counted.items() if count == best), best


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, as ``path: one ≠ other`` lines, at most 20."""
    found = list(_differences(one, other, path or "report"))
    return found[:20]


class _Nothing:
    """Stands where a field is missing, which is not the same as null."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING: Final = _Nothing()


def _differences(one: Any, other: Any, path: str) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({str(k) for k in one} | {str(k) for k in other})
        pairs = [(f"{path}.{k}", one.get(k, _NOTHING), other.get(k, _NOTHING)) for k in keys]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        both = enumerate(zip(one, other, strict=True))
        pairs = [(f"{path}[{i}]", a, b) for i, (a, b) in both]
    elif one == other and type(one) is type(other):  # 1, 1.0 and true are not the same
        return []
    else:
        return [f"{path}: {_shown(one)} ≠ {_shown(other)}"]
    return [line for inner, a, b in pairs for line in _differences(a, b, inner)]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value)[:200]
