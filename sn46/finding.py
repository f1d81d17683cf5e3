"""What a look at a service's needs finds, a line each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``text`` is what was found, or what to do."""

    part: str
    ok: bool
    text: str

    def __str__(self) -> str:
        """One line for a person."""
        text = f": {self.text}" if self.text else ""
        return f"{'ok   ' if self.ok else 'FAIL '} {self.part}{text}"
