"""`archprior meta-runs start`: ask a running service to learn a new version of the prior."""

from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from service.cli.errors import as_invalid_option
from service.cli.meta_runs.following import follow_to_end
from service.cli.meta_runs.options import dataset_choice, read_config
from service.cli.options import DEFAULT_SERVER, JsonOption, RunningServerOption
from service.cli.output import print_json, stderr
from service.client import Client
from service.schemas import MetaRunView
from workers.contracts.meta_runs import MetaRunRequest

DatasetsOption = Annotated[
    list[str],
    typer.Option(
        "--dataset", metavar="ID[:WEIGHT]", help="A dataset, and how often tasks are drawn from it; repeatable."
    ),
]
FollowOption = Annotated[bool, typer.Option("--follow", help="Show the run until it ends; Ctrl-C leaves it running.")]
DEFAULT_TASKS: Final[int] = MetaRunRequest.model_fields["num_tasks"].default


def start(
    dataset: DatasetsOption,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of the configuration's fields that differ.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="One field of the configuration; repeatable.", show_default=False
        ),
    ] = None,
    parent: Annotated[str | None, typer.Option(help="Prior to begin from; fresh weights if absent.")] = None,
    prior_id: Annotated[str | None, typer.Option(help="Name of the prior; by the space and the run if absent.")] = None,
    name: Annotated[str | None, typer.Option(help="A name to find it again.")] = None,
    max_workers: Annotated[
        int | None, typer.Option(help="Most workers at once; as many as there is room for if absent.")
    ] = None,
    cpus_per_worker: Annotated[int, typer.Option(help="CPUs, and threads, of each worker.")] = 1,
    budget_s: Annotated[
        float | None,
        typer.Option("--budget-s", "--budget", help="Seconds of learning, after which it publishes what it has."),
    ] = None,
    num_tasks: Annotated[int, typer.Option(help="Held-out tasks of each judgement.")] = DEFAULT_TASKS,
    follow: FollowOption = False,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Start a meta-run on datasets that meta-runs may learn from: it makes a new version of the prior."""
    chosen = read_config(config, assignments or ())
    datasets = tuple(map(dataset_choice, dataset))
    try:
        request = MetaRunRequest(
            name=name, datasets=datasets, config=chosen, prior_id=prior_id, parent=parent, num_tasks=num_tasks,
            max_workers=max_workers, cpus_per_worker=cpus_per_worker, budget_s=budget_s,
        )  # fmt: skip
    except ValidationError as error:
        raise as_invalid_option("this cannot be asked for", error) from error
    with Client(server) as client:
        started(client, client.create_meta_run(request), follow=follow, as_json=as_json)


def started(client: Client, view: MetaRunView, *, follow: bool, as_json: bool) -> None:
    """Tell of a run that was just asked for, and follow it if that is wanted."""
    if follow:
        if not as_json:
            stderr().print(f"meta-run {view.id}", markup=False)
        follow_to_end(client, view, as_json=as_json)
    elif as_json:
        print_json(view)
    else:
        typer.echo(f"meta-run {view.id}: {view.state.lower()}")
        typer.echo(f"follow it: archprior meta-runs follow {view.id} --server {client.base_url}")
