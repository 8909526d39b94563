"""What `/v1/webhooks` takes and returns."""

from datetime import datetime

from pydantic import Field

from service.schemas.common import Page
from service.schemas.events import EventKind
from workers.contracts.base import Contract


class WebhookForm(Contract):
    """Where to send events.

    Attributes:
        url: `https://`, at a public address; gets a POST for each event. Whether `http://` and addresses of this
            network may be named is a setting of the service.
        kinds: Of the events that are sent; None: all.
    """

    url: str = Field(min_length=8, max_length=2000)
    kinds: tuple[EventKind, ...] | None = Field(None, min_length=1)


class WebhookView(Contract):
    """A webhook.

    Attributes:
        kinds: Of the events that are sent; None: all. A service of a newer version may have recorded others.
        disabled_at: When its receiver answered 410, which ends it.
        secret: That signs what is sent (Standard Webhooks); told once, in the answer that makes the webhook.
    """

    id: str
    url: str
    kinds: tuple[str, ...] | None = None
    created_at: datetime
    disabled_at: datetime | None = None
    secret: str | None = None


class WebhookPage(Page):
    """Webhooks, newest first."""

    items: tuple[WebhookView, ...]


class DeliveryView(Contract):
    """An event on its way to a webhook.

    Attributes:
        num_tries: How often it was sent.
        next_at: When it will be sent again; None: it was taken, or given up.
        last_status: HTTP status of the last answer, if one came.
        last_error: Why the last try failed.
    """

    id: str
    webhook_id: str
    work_id: str
    sequence: int
    num_tries: int
    created_at: datetime
    next_at: datetime | None = None
    delivered_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None


class DeliveryPage(Page):
    """Deliveries of one webhook, newest first."""

    items: tuple[DeliveryView, ...]
