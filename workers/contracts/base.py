"""The base of every schema that is stored or crosses processes."""

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.contracts.errors import NewerFormatError

VERSION: Final = 1
Precision = Literal["float32", "bfloat16"]
"""Of forward and backward passes; `bfloat16` is mixed precision: weights, losses and optimizers stay float32."""


class Contract(BaseModel):
    """An immutable record; unknown fields are refused, so that a typing slip never goes unnoticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoredContract(Contract):
    """A record with its format's version; one that a newer ArchPrior wrote is refused rather than misread."""

    schema_version: int = Field(VERSION, ge=1, le=VERSION)

    @classmethod
    def from_stored(cls, data: bytes, file: str) -> Self:
        """Return the record that a stored file holds.

        Args:
            data: Of the file, JSON.
            file: Its name or key, for the error.

        Raises:
            NewerFormatError: A newer ArchPrior wrote it, or a record inside it.
            ValidationError: It is no such record.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            for found in error.errors():
                if found["loc"][-1:] == ("schema_version",) and found["type"] == "less_than_equal":
                    raise NewerFormatError.of(file, found["input"], VERSION) from None
            raise
