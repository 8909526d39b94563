"""Calls on `/v1/webhooks`."""

from collections.abc import Sequence

from service.client.calls import Calls, quoted
from service.schemas import DeliveryPage, DeliveryView, EventKind, WebhookForm, WebhookPage, WebhookView

WEBHOOKS = "/v1/webhooks"


class WebhookCalls(Calls):
    """Where a service sends what happens."""

    async def create_webhook(
        self, url: str, *, kinds: Sequence[EventKind] | None = None, key: str | None = None
    ) -> WebhookView:
        """Let events be sent to an address; the answer, and no later one, holds the secret that signs them.

        Args:
            url: Gets a POST for each event.
            kinds: Of the events that are sent; all if absent.
            key: The same request with the same key makes one webhook, within 24 hours. Absent: a new key.
        """
        asked = WebhookForm(url=url, kinds=None if kinds is None else tuple(kinds))
        return await self._create(WEBHOOKS, WebhookView, json=asked.model_dump(mode="json", exclude_none=True), key=key)

    async def webhook(self, webhook_id: str) -> WebhookView:
        """Return one webhook."""
        return await self._get(_path(webhook_id), WebhookView)

    async def webhooks(self, *, limit: int | None = None, cursor: str | None = None) -> WebhookPage:
        """Return webhooks, newest first; `cursor` is the `next_cursor` of the page before."""
        return await self._get(WEBHOOKS, WebhookPage, limit=limit, cursor=cursor)

    async def test_webhook(self, webhook_id: str) -> DeliveryView:
        """Send a webhook something at once, to see whether it arrives; each call sends once."""
        return await self._post(f"{_path(webhook_id)}/test", DeliveryView, idempotent=False)

    async def webhook_deliveries(
        self, webhook_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> DeliveryPage:
        """Return what was sent to a webhook or waits to be, newest first."""
        return await self._get(f"{_path(webhook_id)}/deliveries", DeliveryPage, limit=limit, cursor=cursor)

    async def delete_webhook(self, webhook_id: str) -> None:
        """Send a webhook nothing any more. Never retried: a second try finds none."""
        await self._delete(_path(webhook_id))


def _path(webhook_id: str) -> str:
    return f"{WEBHOOKS}/{quoted(webhook_id)}"
