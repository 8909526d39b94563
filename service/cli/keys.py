"""`archprior keys`: who may use the service. Works on its records directly."""

from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.text import Text

from service.cli.database import records
from service.cli.group import group
from service.cli.options import DataDirOption, JsonOption
from service.cli.output import print_json, stderr, stdout, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from service.records.keys import Key


def create(
    owner: Annotated[str, typer.Option(metavar="NAME", help="Whose datasets, adaptations and priors it opens.")],
    role: Annotated[
        Literal["user", "operator"], typer.Option(help="An operator also reads the audit log and the metrics.")
    ] = "user",
    name: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    expires_days: Annotated[
        float | None, typer.Option(min=0, help="Days until it ends by itself; never if absent.", show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it, once. With the first key of a service, every request needs one."""
    from service.records.keys import KeyRecords

    with records(data_dir) as database:
        key, token = KeyRecords(database).create(owner=owner, role=role, name=name, expires_days=expires_days)
    if as_json:
        print_json({**key.model_dump(mode="json"), "key": token})
        return
    stderr().print(f"Key {key.id} of {key.owner}, {key.role}. It cannot be shown again:", markup=False)
    typer.echo(token)


def list_keys(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List the keys that there are and were."""
    from service.records.keys import KeyRecords

    with records(data_dir) as database:
        found = KeyRecords(database).all()
    _tell(found, as_json=as_json)


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="A key's id, which is no secret.")],
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a key, from its next request on."""
    from service.records.keys import KeyRecords

    with records(data_dir) as database:
        key = KeyRecords(database).revoke(key_id)
    if as_json:
        print_json(key)
    else:
        _tell((key,), as_json=False)


keys: Final = group(
    "API keys of a service on this machine, whether it runs or not: make, list and revoke them.",
    {"create": create, "list": list_keys, "revoke": revoke},
)


def _tell(found: "Sequence[Key]", *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    listed = table("key", "owner", "role", "name", "created", "expires", "last used", "revoked")
    for key in found:
        times = (key.created_at, key.expires_at, key.last_used_at, key.revoked_at)
        listed.add_row(*map(Text, (key.id, key.owner, key.role, key.name, *map(_minute, times))))
    stdout().print(listed)


def _minute(moment: "datetime | None") -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
