"""Who a request comes from. Every row has an owner, and a caller sees its owner's rows only."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends

from service.records.model import LOCAL_OWNER

Role = Literal["user", "operator"]


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A caller.

    Attributes:
        owner: Whose rows it reads and writes.
        role: What it may do: an operator also reads what concerns the whole service.
        key_id: Of the key that it came with; None: this service has no keys.
    """

    owner: str
    role: Role
    key_id: str | None


def caller() -> Principal:
    """Return the caller of a service without keys."""
    return Principal(owner=LOCAL_OWNER, role="operator", key_id=None)


CallerDependency = Annotated[Principal, Depends(caller)]
