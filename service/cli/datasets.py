"""`archprior datasets`: what a running service may adapt to and learn from."""

from pathlib import Path
from typing import Annotated, Final

import typer

from service.cli.dataset_uploads import add, copy
from service.cli.dataset_views import describe_dataset, show_datasets
from service.cli.group import group
from service.cli.options import DEFAULT_LIMIT, DEFAULT_SERVER, JsonOption, LimitOption, RunningServerOption
from service.cli.output import print_json
from service.client import Client
from service.schemas import DatasetChange, DatasetState

DatasetArgument = Annotated[str, typer.Argument(metavar="ID", help="A dataset's id.")]


def list_datasets(
    server: RunningServerOption = DEFAULT_SERVER,
    state: Annotated[DatasetState | None, typer.Option(help="Only those in this state.", show_default=False)] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    as_json: JsonOption = False,
) -> None:
    """List the newest datasets, those too that still arrive or were refused."""
    with Client(server) as client:
        page = client.datasets(state=state, limit=limit)
    if as_json:
        print_json(page)
    else:
        show_datasets(page.items)


def show(
    dataset_id: DatasetArgument,
    thumbnails: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save a picture of some of its images.", show_default=False)
    ] = None,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Show a dataset: its classes, and what its check has found."""
    with Client(server) as client:
        view = client.dataset(dataset_id)
        if thumbnails is not None:
            thumbnails.write_bytes(client.thumbnails(dataset_id))
    if as_json:
        print_json(view)
    else:
        describe_dataset(view, server)


def allow(
    dataset_id: DatasetArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Let meta-runs learn from a dataset."""
    _set_meta_use(dataset_id, True, server, as_json=as_json)


def forbid(
    dataset_id: DatasetArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Keep meta-runs from learning from a dataset."""
    _set_meta_use(dataset_id, False, server, as_json=as_json)


def delete(
    dataset_id: DatasetArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False
) -> None:
    """Delete a dataset that no unfinished work uses; what was made of it stays."""
    with Client(server) as client:
        client.delete_dataset(dataset_id)
    if as_json:
        print_json({"deleted": dataset_id})
    else:
        typer.echo(f"dataset {dataset_id} is deleted")


datasets: Final = group(
    "Datasets of a running service: add, copy, look at, and say whether meta-runs may learn from them.",
    {
        "add": add,
        "copy": copy,
        "list": list_datasets,
        "show": show,
        "allow": allow,
        "forbid": forbid,
        "delete": delete,
    },
)


def _set_meta_use(dataset_id: str, meta_use: bool, server: str, *, as_json: bool) -> None:
    with Client(server) as client:
        view = client.change_dataset(dataset_id, DatasetChange(meta_use=meta_use))
    if as_json:
        print_json(view)
    else:
        show_datasets((view,))
