"""The base of every schema that is stored or crosses processes."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """An immutable record; unknown fields are refused, so that a typing slip never goes unnoticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoredContract(Contract):
    """A record with its format's version. A reader accepts every version up to its own."""

    schema_version: int = 1
