"""What became of datasets, adaptations and meta-runs, told in the order in which it happened."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import ColumnElement, Integer, and_, func, insert, literal, or_, select
from sqlalchemy.orm import Session

from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.model import moment
from service.records.tables import AdaptationRow, DatasetRow, DeliveryRow, EventRow, MetaRunRow, WebhookRow
from service.schemas import FINAL_STATES, SETTLED_META_STATES, EventKind, EventView

WorkKind = Literal["adaptation", "dataset", "meta_run"]

NOTHING: Final[Mapping[str, object]] = {}
MAX_ROWS: Final = 1000
"""Most events that one look returns, of all works together; the next look returns those that follow."""
MAX_BEHIND: Final = 200
"""Most works of which one look returns events."""
UNKNOWN: Final = ""
"""The state of what has no row."""


class Followed(NamedTuple):
    """What somebody follows."""

    kind: WorkKind
    work_id: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far one work has come.

    Attributes:
        state: Its state, `UNKNOWN` where it has no row.
        attempt: The current one; of a dataset 1.
        settled: Whether it has ended, and `events` holds all that it has told.
        events: Those after the one that was named, oldest first.
    """

    state: str
    attempt: int
    settled: bool
    events: tuple[EventView, ...] = ()


class _Kind(NamedTuple):
    """Where works of one kind are recorded, and in which states nothing more will be told."""

    work_id: ColumnElement[str]
    state: ColumnElement[str]
    attempt: ColumnElement[int]
    settled: frozenset[str]


_KINDS: Final[Mapping[WorkKind, _Kind]] = {
    "adaptation": _Kind(
        AdaptationRow.id.expression, AdaptationRow.state.expression, AdaptationRow.attempt.expression, FINAL_STATES
    ),
    "meta_run": _Kind(
        MetaRunRow.id.expression, MetaRunRow.state.expression, MetaRunRow.attempt.expression, SETTLED_META_STATES
    ),
    "dataset": _Kind(
        DatasetRow.id.expression,
        DatasetRow.state.expression,
        literal(1, Integer),
        frozenset({"READY", "REJECTED", "DELETING", "DELETED"}),
    ),
}


class EventRecords:
    """What was told, for those who read or follow it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, work_id: str, *, after: int, limit: int) -> tuple[EventView, ...]:
        """Return at most `limit` events of one work that come after that number, oldest first."""
        query = select(EventRow).where(EventRow.work_id == work_id, EventRow.sequence > after)
        with self._database.transaction() as session:
            return tuple(map(event_view, session.scalars(query.order_by(EventRow.sequence).limit(limit))))

    def standings(self, after: Mapping[Followed, int]) -> Mapping[Followed, Standing]:
        """Return how far works have come: with one question for each kind of work, and two for all their events.

        Args:
            after: The number of the last event that is known, by work.
        """
        with self._database.transaction() as session:
            # States first: whatever has ended by then has told its last event.
            states = _states(session, after)
            heads = _heads(session, (one.work_id for one in after))
            behind = {one.work_id: at for one, at in after.items() if heads.get(one.work_id, 0) > at}
            events = _following(session, behind)
        standings = {}
        for one, at in after.items():
            state, attempt = states.get(one, (UNKNOWN, 1))
            found = events.get(one.work_id, ())
            has_all = (found[-1].sequence if found else at) >= heads.get(one.work_id, 0)
            ended = state == UNKNOWN or state in _KINDS[one.kind].settled
            standings[one] = Standing(state=state, attempt=attempt, settled=ended and has_all, events=found)
        return standings


def record_event(
    session: Session, *, work_id: str, owner: str, kind: EventKind, data: Mapping[str, object] = NOTHING
) -> int:
    """Record an event in the transaction that makes it true, and that it is to be sent to its owner's webhooks.

    Args:
        session: Of that transaction, which has written the row of what the event is about: this makes the events of one
            thing follow one another.
        work_id: Of what it is about.
        owner: Whose that is.
        kind: Of event.
        data: What is to be known beside.

    Returns:
        Its number.
    """
    sequence = add_event(session, work_id=work_id, owner=owner, kind=kind, data=data)
    wanted = select(WebhookRow.id, WebhookRow.kinds).where(
        WebhookRow.owner == owner, WebhookRow.deleted_at.is_(None), WebhookRow.disabled_at.is_(None)
    )
    deliveries = [
        delivery_values(webhook_id, work_id, sequence)
        for webhook_id, kinds in session.execute(wanted)
        if kinds is None or kind in kinds
    ]
    for values in deliveries:
        session.execute(insert(DeliveryRow).values(values))
    return sequence


def add_event(session: Session, *, work_id: str, owner: str, kind: EventKind, data: Mapping[str, object]) -> int:
    """Record an event that goes to no webhook by itself; otherwise as `record_event`."""
    last = select(func.coalesce(func.max(EventRow.sequence), 0)).where(EventRow.work_id == work_id)
    sequence = int(session.scalar(last) or 0) + 1
    values = {
        "work_id": work_id,
        "sequence": sequence,
        "owner": owner,
        "kind": kind,
        "data": dict(data),
        "created_at": DatabaseNow(),
    }
    session.execute(insert(EventRow).values(values))
    return sequence


def delivery_values(webhook_id: str, work_id: str, sequence: int) -> dict[str, Any]:
    """Return the row of an event that is to be sent to a webhook, at once."""
    return {
        "id": f"wd-{secrets.token_hex(8)}",
        "webhook_id": webhook_id,
        "work_id": work_id,
        "sequence": sequence,
        "created_at": DatabaseNow(),
        "next_at": DatabaseNow(),
    }


def event_view(row: EventRow) -> EventView:
    """Return an event as the API shows it."""
    return EventView(
        work_id=row.work_id,
        sequence=row.sequence,
        kind=row.kind,
        at=moment(row.created_at),
        data=row.data,
    )


def _states(session: Session, followed: Iterable[Followed]) -> Mapping[Followed, tuple[str, int]]:
    ids: dict[WorkKind, list[str]] = {}
    for one in followed:
        ids.setdefault(one.kind, []).append(one.work_id)
    states = {}
    for kind, own in ids.items():
        row = _KINDS[kind]
        query = select(row.work_id, row.state, row.attempt).where(row.work_id.in_(own))
        for work_id, state, attempt in session.execute(query):
            states[Followed(kind, work_id)] = (state, attempt)
    return states


def _heads(session: Session, work_ids: Iterable[str]) -> Mapping[str, int]:
    """Return the number of each work's last event; answered from the index alone."""
    query = select(EventRow.work_id, func.max(EventRow.sequence)).where(EventRow.work_id.in_(tuple(work_ids)))
    return dict(session.execute(query.group_by(EventRow.work_id)).all())


def _following(session: Session, after: Mapping[str, int]) -> Mapping[str, tuple[EventView, ...]]:
    """Return events that come after those, by work: of the first `MAX_BEHIND` works, `MAX_ROWS` of all of them."""
    if not after:
        return {}
    behind = [
        and_(EventRow.work_id == work_id, EventRow.sequence > at) for work_id, at in sorted(after.items())[:MAX_BEHIND]
    ]
    query = select(EventRow).where(or_(*behind)).order_by(EventRow.work_id, EventRow.sequence).limit(MAX_ROWS)
    found: dict[str, tuple[EventView, ...]] = {}
    for row in session.scalars(query):
        found[row.work_id] = (*found.get(row.work_id, ()), event_view(row))
    return found
