"""Requests that may be sent again: what one has made is recorded with its key, in the same transaction."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.errors import IdempotencyKeyReusedError
from service.records.clock import DatabaseNow
from service.records.tables import IdempotencyRow

KEPT_S: Final = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Once:
    """A request that makes something at most once.

    Attributes:
        key: That its client chose.
        fingerprint: Of all that it asks for, in hexadecimal.
    """

    key: str
    fingerprint: str


def made_by(session: Session, once: Once, *, owner: str) -> str | None:
    """Return the id of what a request has made already; None where it was not made, or more than `KEPT_S` ago.

    Raises:
        IdempotencyKeyReusedError: Another request had this key.
    """
    recent = IdempotencyRow.created_at > DatabaseNow() - KEPT_S
    query = select(IdempotencyRow).where(IdempotencyRow.owner == owner, IdempotencyRow.key == once.key, recent)
    row = session.scalar(query)
    if row is None:
        return None
    if row.fingerprint != once.fingerprint:
        raise IdempotencyKeyReusedError(
            "this Idempotency-Key came with another request",
            got=once.key,
            todo="Give each new request a key of its own; repeat a request with the very same fields.",
        )
    return row.work_id


def claim(session: Session, once: Once, *, owner: str, work_id: str) -> str:
    """Record that a request makes something now; return its id, or that of what the same request has made before.

    Of two that come at once, the second waits here until the first has committed. Keys that are too old go.

    Args:
        session: Of the transaction that records what is made; this is the first thing that it does.
        once: The request.
        owner: Whose it is.
        work_id: Of what it would make.

    Raises:
        IdempotencyKeyReusedError: Another request had this key.
    """
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at <= DatabaseNow() - KEPT_S))
    values = {
        "owner": owner,
        "key": once.key,
        "fingerprint": once.fingerprint,
        "work_id": work_id,
        "created_at": DatabaseNow(),
    }
    try:
        with session.begin_nested():
            session.execute(insert(IdempotencyRow).values(values))
    except IntegrityError:
        made = made_by(session, once, owner=owner)
        if made is None:
            raise
        return made
    return work_id
