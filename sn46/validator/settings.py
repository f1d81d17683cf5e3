"""What a validator is told: where to connect, and how much of the machine to use."""

from pathlib import Path

from pydantic import Field, field_validator

from sn46.client.settings import ActorSettings


class ValidatorSettings(ActorSettings):
    """A validator's settings, from the environment and ``.env``. The rules are not among them:
    they come with each assignment."""

    check_concurrency: int = Field(8, ge=1, le=256, description="rows checked at a time")
    examine_seconds: float = Field(120.0, gt=0, description="longest time for one submission")
    examine_memory_mb: int = Field(3_000, ge=256, description="most memory for examining")
    data_dir: Path = Field(Path("validator-data"), description="state that survives a restart")

    @field_validator("data_dir")
    @classmethod
    def _at_home(cls, value: Path) -> Path:
        return value.expanduser()
