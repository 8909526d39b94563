"""The base of every schema that is stored or crosses processes."""

from pydantic import BaseModel, ConfigDict, Field


class Contract(BaseModel):
    """An immutable record; unknown fields are refused, so that a typing slip never goes unnoticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoredContract(Contract):
    """A record with its format's version; one that a newer ArchPrior wrote is refused rather than misread."""

    schema_version: int = Field(1, ge=1, le=1)
