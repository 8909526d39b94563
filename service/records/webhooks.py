"""The records of webhooks."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from service.errors import NotFoundError, QuotaExceededError
from service.records.clock import DatabaseNow
from service.records.database import Database
from service.records.idempotency import Once, claim
from service.records.model import moment
from service.records.owners import add_owner
from service.records.pages import newest
from service.records.tables import DeliveryRow, WebhookRow
from service.schemas import EventKind

MAX_OF_OWNER: Final = 20


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Where an owner's events are sent.

    Attributes:
        secret: That signs what is sent.
        kinds: Of the events that are sent; None: all. A service of a newer version may have recorded others.
        disabled_at: When its receiver said that it wants no more.
    """

    id: str
    owner: str
    url: str
    secret: str
    kinds: tuple[str, ...] | None
    created_at: datetime
    disabled_at: datetime | None


class WebhookRecords:
    """Webhooks of this service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, url: str, *, secret: str, kinds: tuple[EventKind, ...] | None, owner: str, once: Once | None = None
    ) -> Webhook:
        """Record a webhook; or return what the same request has made before, with its secret.

        Raises:
            IdempotencyKeyReusedError: Another request had this key.
            NotFoundError: What the same request made was deleted since.
            QuotaExceededError: Its owner has `MAX_OF_OWNER`.
        """
        values = {
            "id": f"wh-{secrets.token_hex(6)}",
            "owner": owner,
            "url": url,
            "secret": secret,
            "kinds": None if kinds is None else list(kinds),
            "created_at": DatabaseNow(),
        }
        with self._database.transaction() as session:
            if once is not None:
                made = claim(session, once, owner=owner, work_id=str(values["id"]))
                if made != values["id"]:
                    return as_webhook(_alive(session, made, owner=owner))
            add_owner(session, owner)  # of two that come at once, the second counts the first
            alive = (WebhookRow.owner == owner, WebhookRow.deleted_at.is_(None))
            if (session.scalar(select(func.count()).where(*alive)) or 0) >= MAX_OF_OWNER:
                todo = "Delete one that is no longer needed."
                raise QuotaExceededError("no more webhooks", expected=f"at most {MAX_OF_OWNER}", todo=todo)
            return as_webhook(session.scalars(insert(WebhookRow).values(values).returning(WebhookRow)).one())

    def get(self, webhook_id: str, *, owner: str) -> Webhook:
        """Return one webhook. Raises `NotFoundError`."""
        with self._database.transaction() as session:
            return as_webhook(_alive(session, webhook_id, owner=owner))

    def page(self, *, owner: str, limit: int, cursor: str | None = None) -> tuple[tuple[Webhook, ...], str | None]:
        """Return at most `limit` webhooks, newest first, and the cursor of the next part if there is one."""
        query = select(WebhookRow).where(WebhookRow.owner == owner, WebhookRow.deleted_at.is_(None))
        with self._database.transaction() as session:
            rows, following = newest(session, query, WebhookRow, limit=limit, cursor=cursor)
        return tuple(map(as_webhook, rows)), following

    def delete(self, webhook_id: str, *, owner: str) -> None:
        """Send nothing more to a webhook, and forget its secret. Raises `NotFoundError`."""
        alive = (WebhookRow.id == webhook_id, WebhookRow.owner == owner, WebhookRow.deleted_at.is_(None))
        gone = update(WebhookRow).where(*alive).values(deleted_at=DatabaseNow(), secret="").returning(WebhookRow.id)
        with self._database.transaction() as session:
            if session.execute(gone).first() is None:
                raise _no_such_webhook(webhook_id)
            give_up_all(session, webhook_id, "the webhook was deleted")


def as_webhook(row: WebhookRow) -> Webhook:
    """Return a row as a value."""
    return Webhook(
        id=row.id,
        owner=row.owner,
        url=row.url,
        secret=row.secret,
        kinds=None if row.kinds is None else tuple(map(str, row.kinds)),
        created_at=moment(row.created_at),
        disabled_at=None if row.disabled_at is None else moment(row.disabled_at),
    )


def give_up_all(session: Session, webhook_id: str, error: str) -> None:
    """Send none of what is still on its way to a webhook."""
    waiting = (DeliveryRow.webhook_id == webhook_id, DeliveryRow.next_at.is_not(None))
    session.execute(update(DeliveryRow).where(*waiting).values(next_at=None, last_error=error))


def _alive(session: Session, webhook_id: str, *, owner: str) -> WebhookRow:
    alive = (WebhookRow.id == webhook_id, WebhookRow.owner == owner, WebhookRow.deleted_at.is_(None))
    row = session.scalar(select(WebhookRow).where(*alive))
    if row is None:
        raise _no_such_webhook(webhook_id)
    return row


def _no_such_webhook(webhook_id: str) -> NotFoundError:
    return NotFoundError("no such webhook", got=webhook_id, todo="GET /v1/webhooks lists those there are.")
