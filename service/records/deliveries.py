"""The outbox of webhooks: events that are on their way, each written in the transaction that recorded the event."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError
from sqlalchemy import case, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.events import add_event, delivery_values, event_view
from service.records.model import moment
from service.records.pages import newest
from service.records.tables import DeliveryRow, EventRow, WebhookRow
from service.records.webhooks import Webhook, as_webhook, give_up_all
from service.schemas import DeliveryView, EventView

CLAIMED_S: Final = 30.0
"""Longer than one try takes. Who has died with a message in hand may have sent it: it is sent again then."""
MAX_ERROR: Final = 500
NEVER_ENDED: Final = "whoever sent it never came to record the outcome"
COLLECTED: Final = "the event is no longer kept"
UNREADABLE: Final = "the record of the event cannot be read"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """An event to be sent to a webhook now.

    Attributes:
        id: The same each time that it is sent.
        num_tries: This one included.
    """

    id: str
    webhook: Webhook
    event: EventView
    num_tries: int


@dataclass(frozen=True, kw_only=True)
class Due:
    """A message that is to be sent now, to this webhook."""

    delivery_id: str
    webhook: Webhook


class DeliveryRecords:
    """What is on its way, and what has become of it.

    Args:
        database: Where it is recorded.
        max_tries: How often one message is sent.
    """

    def __init__(self, database: Database, *, max_tries: int) -> None:
        self._database, self._max_tries = database, max_tries

    def has_due(self) -> bool:
        """Return whether anything is to be sent now."""
        with self._database.transaction() as session:
            query = select(DeliveryRow.id).join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
            return session.scalar(query.where(*self._is_due()).limit(1)) is not None

    def next_due(self, *, but_webhooks: Set[str], but_owners: Set[str]) -> Due | None:
        """Return what has waited longest of what is to be sent; None: nothing.

        Args:
            but_webhooks: That get nothing more now.
            but_owners: Whose webhooks get nothing more now.
        """
        oldest = (
            select(DeliveryRow.id, WebhookRow)
            .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
            .where(*self._is_due(), WebhookRow.id.not_in(but_webhooks), WebhookRow.owner.not_in(but_owners))
            .order_by(DeliveryRow.next_at)
            .limit(1)
        )
        with self._database.transaction() as session:
            found = session.execute(oldest).one_or_none()
            return None if found is None else Due(delivery_id=found[0], webhook=as_webhook(found[1]))

    def claim(self, delivery_id: str) -> Delivery | None:
        """Return what is due, for whoever asks alone to send; None: it is due no longer, or is given up now."""
        claimed = (
            update(DeliveryRow)
            .where(DeliveryRow.id == delivery_id, DeliveryRow.next_at <= DatabaseNow())
            .values(next_at=DatabaseNow() + CLAIMED_S, num_tries=DeliveryRow.num_tries + 1)
            .returning(DeliveryRow)
        )
        with self._database.transaction() as session:
            row = session.scalars(claimed).one_or_none()
            if row is None:
                return None
            try:
                found = _delivery(session, row)
                error = COLLECTED if found is None else NEVER_ENDED
            except ValidationError:
                found, error = None, UNREADABLE
            if found is not None and found.num_tries <= self._max_tries:
                return found
            given_up = update(DeliveryRow).where(DeliveryRow.id == row.id)
            session.execute(given_up.values(next_at=None, last_error=error))
            return None

    def add_test(self, webhook: Webhook) -> Delivery:
        """Record a `webhook.test` event about a webhook, which is sent to that one alone; it is claimed already."""
        with self._database.transaction() as session:
            locked = update(WebhookRow).where(WebhookRow.id == webhook.id).values(url=webhook.url)
            session.execute(locked)  # so that two tests at once follow one another
            data = {"webhook_id": webhook.id}
            sequence = add_event(session, work_id=webhook.id, owner=webhook.owner, kind="webhook.test", data=data)
            values = delivery_values(webhook.id, webhook.id, sequence)
            values |= {"num_tries": 1, "next_at": DatabaseNow() + CLAIMED_S}
            row = session.scalars(insert(DeliveryRow).values(values).returning(DeliveryRow)).one()
            event = session.get_one(EventRow, (webhook.id, sequence))
            return Delivery(id=row.id, webhook=webhook, event=event_view(event), num_tries=1)

    def taken(self, delivery_id: str, *, status: int | None) -> DeliveryView:
        """Record that a message was taken."""
        return self._mark(delivery_id, delivered_at=DatabaseNow(), next_at=None, last_status=status, last_error=None)

    def failed(
        self, delivery_id: str, *, status: int | None, error: str, again_s: float | None, rest_s: float = 0.0
    ) -> DeliveryView:
        """Record that a message was not taken.

        Args:
            delivery_id: Of the message.
            status: Of the answer, if one came.
            error: Why.
            again_s: Seconds until it is sent again; None: never.
            rest_s: Seconds for which its receiver asks to be left alone: all that waits for it waits as long.
        """
        # One whose webhook was deleted or disabled meanwhile stays given up.
        next_at = None if again_s is None else case((DeliveryRow.next_at.is_not(None), DatabaseNow() + again_s))
        view = self._mark(delivery_id, next_at=next_at, last_status=status, last_error=error[:MAX_ERROR])
        if rest_s > 0.0:
            rested_at = DatabaseNow() + rest_s
            others = (DeliveryRow.webhook_id == view.webhook_id, DeliveryRow.id != view.id)
            waiting = update(DeliveryRow).where(*others, DeliveryRow.next_at < rested_at)
            with self._database.transaction() as session:
                session.execute(waiting.values(next_at=rested_at))
        return view

    def disable(self, webhook_id: str, error: str) -> None:
        """Send nothing more to a webhook whose receiver wants nothing more."""
        with self._database.transaction() as session:
            session.execute(update(WebhookRow).where(WebhookRow.id == webhook_id).values(disabled_at=DatabaseNow()))
            give_up_all(session, webhook_id, error)

    def page(
        self, webhook_id: str, *, limit: int, cursor: str | None = None
    ) -> tuple[tuple[DeliveryView, ...], str | None]:
        """Return at most `limit` deliveries of a webhook, newest first, and the cursor of the next part if any."""
        query = select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id)
        with self._database.transaction() as session:
            rows, following = newest(session, query, DeliveryRow, limit=limit, cursor=cursor)
        return tuple(map(_view, rows)), following

    @staticmethod
    def _is_due() -> tuple[ColumnElement[bool], ...]:
        return (
            DeliveryRow.next_at <= DatabaseNow(),
            WebhookRow.deleted_at.is_(None),
            WebhookRow.disabled_at.is_(None),
        )

    def _mark(self, delivery_id: str, **values: object) -> DeliveryView:
        marked = update(DeliveryRow).where(DeliveryRow.id == delivery_id).values(values).returning(DeliveryRow)
        with self._database.transaction() as session:
            return _view(session.scalars(marked).one())


def _delivery(session: Session, row: DeliveryRow) -> Delivery | None:
    event = session.get(EventRow, (row.work_id, row.sequence))
    if event is None:
        return None
    webhook = as_webhook(session.get_one(WebhookRow, row.webhook_id))
    return Delivery(id=row.id, webhook=webhook, event=event_view(event), num_tries=row.num_tries)


def _view(row: DeliveryRow) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        webhook_id=row.webhook_id,
        work_id=row.work_id,
        sequence=row.sequence,
        num_tries=row.num_tries,
        created_at=moment(row.created_at),
        next_at=None if row.next_at is None else moment(row.next_at),
        delivered_at=None if row.delivered_at is None else moment(row.delivered_at),
        last_status=row.last_status,
        last_error=row.last_error,
    )
