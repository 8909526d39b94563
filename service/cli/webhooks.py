"""`archprior webhooks`: where a running service sends what happens."""

from collections.abc import Sequence
from typing import Annotated, Final, get_args

import typer
from pydantic import TypeAdapter, ValidationError
from rich.text import Text

from search_spaces.errors import InvalidOptionError
from service.cli.errors import FAILED
from service.cli.group import group
from service.cli.options import DEFAULT_LIMIT, DEFAULT_SERVER, JsonOption, LimitOption, RunningServerOption
from service.cli.output import print_json, stderr, stdout, table
from service.client import Client
from service.schemas import DeliveryView, EventKind, WebhookView

_KIND: Final[TypeAdapter[EventKind]] = TypeAdapter(EventKind)
WebhookArgument = Annotated[str, typer.Argument(metavar="ID", help="A webhook's id.")]


def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Gets a POST for each event.")],
    kind: Annotated[
        list[str] | None, typer.Option(help="Of events that are sent; all if absent. May be repeated.")
    ] = None,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Have events sent to an address, from now on; shows the secret that signs them, once."""
    kinds = None if not kind else tuple(map(_kind, kind))
    with Client(server) as client:
        view = client.create_webhook(url, kinds=kinds)
    if as_json:
        print_json(view)
        return
    stderr().print(f"Webhook {view.id}. Its secret cannot be shown again:", markup=False)
    typer.echo(view.secret)


def list_webhooks(
    server: RunningServerOption = DEFAULT_SERVER, limit: LimitOption = DEFAULT_LIMIT, as_json: JsonOption = False
) -> None:
    """List the newest webhooks."""
    with Client(server) as client:
        page = client.webhooks(limit=limit)
    if as_json:
        print_json(page)
    else:
        _show(page.items)


def remove(
    webhook_id: WebhookArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Send a webhook nothing any more."""
    with Client(server) as client:
        client.delete_webhook(webhook_id)
    if as_json:
        print_json({"deleted": webhook_id})
    else:
        typer.echo(f"webhook {webhook_id} is deleted")


def try_now(
    webhook_id: WebhookArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Send a webhook something at once; exits with 1 if it is not taken."""
    with Client(server) as client:
        view = client.test_webhook(webhook_id)
    if as_json:
        print_json(view)
    else:
        typer.echo(f"webhook {webhook_id}: {_outcome(view)}")
    if view.delivered_at is None:
        raise typer.Exit(FAILED)


def deliveries(
    webhook_id: WebhookArgument,
    server: RunningServerOption = DEFAULT_SERVER,
    limit: LimitOption = DEFAULT_LIMIT,
    as_json: JsonOption = False,
) -> None:
    """List what was or is to be sent to a webhook, newest first."""
    with Client(server) as client:
        page = client.webhook_deliveries(webhook_id, limit=limit)
    if as_json:
        print_json(page)
        return
    listed = table("delivery", "of", "event", "tries", "outcome", numbers=frozenset({2, 3}))
    for view in page.items:
        row = (view.id, view.work_id, str(view.sequence), str(view.num_tries), _outcome(view))
        listed.add_row(*map(Text, row))
    stdout().print(listed)


webhooks: Final = group(
    "Webhooks: where a running service sends what happens.",
    {"add": add, "list": list_webhooks, "remove": remove, "test": try_now, "deliveries": deliveries},
)


def _kind(name: str) -> EventKind:
    try:
        return _KIND.validate_python(name)
    except ValidationError as error:
        known = ", ".join(get_args(EventKind))
        raise InvalidOptionError("no such kind of event", got=name, expected=f"one of {known}") from error


def _show(views: Sequence[WebhookView]) -> None:
    listed = table("webhook", "url", "kinds", "created", "state")
    for view in views:
        row = (
            view.id,
            view.url,
            "all" if view.kinds is None else ", ".join(view.kinds),
            view.created_at.isoformat(timespec="seconds"),
            "" if view.disabled_at is None else "disabled: its receiver answered 410",
        )
        listed.add_row(*map(Text, row))
    stdout().print(listed)


def _outcome(view: DeliveryView) -> str:
    if view.delivered_at is not None:
        return f"taken, with status {view.last_status}"
    error = view.last_error or "not sent yet"
    if view.next_at is None:
        return f"given up: {error}"
    return f"{error}; to be sent at {view.next_at.isoformat(timespec='seconds')}"
