"""`/v1/webhooks`."""

from functools import partial
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from service.http.auth import CallerDependency
from service.http.idempotency import KeyHeader, once
from service.http.problems import responses
from service.parts import PartsDependency
from service.records.webhooks import Webhook
from service.routes.queries import Cursor, Limit
from service.schemas import DeliveryPage, DeliveryView, WebhookForm, WebhookPage, WebhookView
from service.webhooks.addresses import parsed
from service.webhooks.signing import new_secret

WEBHOOKS: Final = "/v1/webhooks"

router = APIRouter(prefix=WEBHOOKS, tags=["webhooks"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Have events sent",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.TOO_MANY_REQUESTS),
)
def create_webhook(
    form: WebhookForm, response: Response, parts: PartsDependency, caller: CallerDependency, key: KeyHeader = None
) -> WebhookView:
    """Have each event of these kinds, from now on, sent to a URL. The answer alone tells the secret that signs them.

    The same request with the same `Idempotency-Key` is answered with the webhook that the first one made.
    """
    parsed(form.url, allow_private=parts.settings.webhook_private_addresses)
    webhook = parts.webhooks.add(
        form.url,
        secret=new_secret(),
        kinds=form.kinds,
        owner=caller.owner,
        once=once(key, operation="create_webhook", request=form),
    )
    response.headers["Location"] = f"{WEBHOOKS}/{webhook.id}"
    return _view(webhook).model_copy(update={"secret": webhook.secret})


@router.get("", summary="List webhooks", responses=responses(HTTPStatus.UNPROCESSABLE_ENTITY))
def list_webhooks(
    parts: PartsDependency, caller: CallerDependency, limit: Limit = 20, cursor: Cursor = None
) -> WebhookPage:
    """Webhooks, newest first, in parts."""
    found, following = parts.webhooks.page(owner=caller.owner, limit=limit, cursor=cursor)
    return WebhookPage(items=tuple(map(_view, found)), next_cursor=following)


@router.get("/{webhook_id}", summary="Get a webhook", responses=responses(HTTPStatus.NOT_FOUND))
def get_webhook(webhook_id: str, parts: PartsDependency, caller: CallerDependency) -> WebhookView:
    """One webhook, without its secret."""
    return _view(parts.webhooks.get(webhook_id, owner=caller.owner))


@router.delete(
    "/{webhook_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a webhook",
    responses=responses(HTTPStatus.NOT_FOUND),
)
def delete_webhook(webhook_id: str, parts: PartsDependency, caller: CallerDependency) -> None:
    """Send nothing more, not even what is on its way."""
    parts.webhooks.delete(webhook_id, owner=caller.owner)


@router.post(
    "/{webhook_id}/test",
    summary="Try a webhook",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS),
)
async def test_webhook(webhook_id: str, parts: PartsDependency, caller: CallerDependency) -> DeliveryView:
    """Send a `webhook.test` event now, once, and say what became of it: the answer comes within some seconds.

    An owner may try one webhook at a time.
    """
    webhook = await run_in_threadpool(partial(parts.webhooks.get, webhook_id, owner=caller.owner))
    async with parts.webhook_trials.one_of(caller.owner):
        delivery = await run_in_threadpool(parts.deliveries.add_test, webhook)
        return await parts.delivery_loop.deliver(delivery, again=False)


@router.get(
    "/{webhook_id}/deliveries",
    summary="List a webhook's deliveries",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def list_deliveries(
    webhook_id: str, parts: PartsDependency, caller: CallerDependency, limit: Limit = 20, cursor: Cursor = None
) -> DeliveryPage:
    """What was or is to be sent to a webhook, newest first, in parts."""
    parts.webhooks.get(webhook_id, owner=caller.owner)
    items, following = parts.deliveries.page(webhook_id, limit=limit, cursor=cursor)
    return DeliveryPage(items=items, next_cursor=following)


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        kinds=webhook.kinds,
        created_at=webhook.created_at,
        disabled_at=webhook.disabled_at,
    )
