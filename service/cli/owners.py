"""`archprior owners`: what each owner has, and may have. Works on the service's records directly."""

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from search_spaces.errors import InvalidOptionError
from service.cli.database import records
from service.cli.group import group
from service.cli.options import DataDirOption, JsonOption
from service.cli.output import print_json, stdout, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.records.owners import Owner


def list_owners(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List the owners, what they have and their own quotas."""
    from service.records.owners import OwnerRecords

    with records(data_dir) as database:
        found = OwnerRecords(database).all()
    if as_json:
        print_json(found)
    else:
        _show(found)


def quota(
    owner: Annotated[str, typer.Argument(metavar="NAME", help="Whose.")],
    max_bytes: Annotated[
        int | None, typer.Option(min=0, help="Of its datasets together; stays if absent.", show_default=False)
    ] = None,
    max_unfinished: Annotated[
        int | None,
        typer.Option(min=0, help="Adaptations and meta-runs that run or wait; stays if absent.", show_default=False),
    ] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Have the service's settings count again.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an owner quotas of its own, from its next request on; without options, show them."""
    from service.quotas import Quotas
    from service.records.owners import OwnerRecords

    given = {"max_bytes": max_bytes, "max_unfinished": max_unfinished}
    if defaults and any(value is not None for value in given.values()):
        raise InvalidOptionError("quotas and --defaults exclude each other")
    with records(data_dir) as database:
        owners = OwnerRecords(database)
        found = owners.clear_quotas(owner) if defaults else owners.set_quotas(owner, Quotas(**given))
    if as_json:
        print_json(found)
    else:
        _show((found,))


owners: Final = group(
    "Owners of a service on this machine, whether it runs or not: what they have, and what they may have.",
    {"list": list_owners, "quota": quota},
)


def _show(found: "Sequence[Owner]") -> None:
    columns = ("owner", "bytes", "at most", "unfinished", "at most")
    listed = table(*columns, numbers=frozenset({1, 2, 3, 4}))
    for one in found:
        quotas = ("settings" if value is None else f"{value:,}" for value in (one.max_bytes, one.max_unfinished))
        max_bytes, max_unfinished = quotas
        row = (one.id, f"{one.num_bytes:,}", max_bytes, f"{one.num_unfinished:,}", max_unfinished)
        listed.add_row(*map(Text, row))
    stdout().print(listed)
