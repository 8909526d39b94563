"""`archprior priors`: what has been learned so far, and which of it is used."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.text import Text

from search_spaces.errors import InvalidOptionError
from service.cli.errors import as_invalid_option
from service.cli.group import group
from service.cli.inputs import check_prior
from service.cli.meta_runs.options import dataset_choice
from service.cli.meta_runs.start import DatasetsOption, FollowOption, started
from service.cli.options import (
    DEFAULT_LIMIT,
    DEFAULT_SERVER,
    JsonOption,
    LimitOption,
    RunningServerOption,
    ServerOption,
)
from service.cli.output import print_files, print_json, stderr, stdout, table
from service.client import Client
from service.schemas import Comparison, PriorView
from workers.priors.registry import CARD, DEFAULTS, TENSORS, bundled_cards

DEFAULT_TASKS: Final[int] = Comparison.model_fields["num_tasks"].default
PriorArgument = Annotated[str, typer.Argument(metavar="ID", help="A prior's id.")]


def list_priors(context: typer.Context, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List the meta-priors that come with the package, or those that a running service knows; or see to one of them."""
    if context.invoked_subcommand is not None:
        if server is not None or as_json:
            raise InvalidOptionError(
                "--server and --json stand too early", todo=f"Put them after `priors {context.invoked_subcommand}`."
            )
        return
    if server is None:
        views = tuple(
            PriorView(card=card, bundled=True, default=DEFAULTS.get(card.search_space) == card.id)
            for card in bundled_cards().values()
        )
    else:
        with Client(server) as client:
            views = client.all_priors()
    if as_json:
        print_json(views)
    else:
        _show(views)


def show(prior_id: PriorArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Show one prior: what it learned from, how, how well it adapts."""
    with Client(server) as client:
        view = client.prior(prior_id)
    if as_json:
        print_json(view)
    else:
        _describe(view)


def promote(prior_id: PriorArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Make a prior the one that an adaptation gets that names none."""
    with Client(server) as client:
        view = client.promote_prior(prior_id)
    if as_json:
        print_json(view)
    else:
        space = view.card.search_space
        typer.echo(f"an adaptation over {space} that names no prior gets {view.card.id} from now on")


def promotions(
    search_space: Annotated[
        str | None, typer.Option(metavar="SPACE", help="Only those of this search space.", show_default=False)
    ] = None,
    server: RunningServerOption = DEFAULT_SERVER,
    limit: LimitOption = DEFAULT_LIMIT,
    cursor: Annotated[str | None, typer.Option(help="`next_cursor` of the part before.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """List when which prior was made the default, newest first."""
    with Client(server) as client:
        page = client.promotions(search_space=search_space, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    listed = table("promoted", "search space", "prior", "by")
    for one in page.items:
        row = (one.promoted_at.isoformat(timespec="seconds"), one.search_space, one.prior_id, one.promoted_by)
        listed.add_row(*map(Text, row))
    stdout().print(listed)
    if page.next_cursor is not None:
        stderr().print(f"There are more: --cursor {page.next_cursor}", markup=False)


def delete(prior_id: PriorArgument, server: RunningServerOption = DEFAULT_SERVER, as_json: JsonOption = False) -> None:
    """Delete a prior that nothing uses."""
    with Client(server) as client:
        client.delete_prior(prior_id)
    if as_json:
        print_json({"deleted": prior_id})
    else:
        typer.echo(f"prior {prior_id} is deleted")


def compare(
    prior_ids: Annotated[list[str], typer.Argument(metavar="ID ID ...", help="Priors of one space and skeleton.")],
    dataset: DatasetsOption,
    num_tasks: Annotated[int, typer.Option(help="Held-out tasks, the same for each prior.")] = DEFAULT_TASKS,
    seed: Annotated[int, typer.Option(help="Of the tasks.")] = 0,
    follow: FollowOption = False,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Judge priors on the same held-out tasks of datasets."""
    datasets = tuple(map(dataset_choice, dataset))
    try:
        comparison = Comparison(priors=tuple(prior_ids), datasets=datasets, num_tasks=num_tasks, seed=seed)
    except ValidationError as error:
        raise as_invalid_option("this cannot be compared", error) from error
    with Client(server) as client:
        started(client, client.compare_priors(comparison), follow=follow, as_json=as_json)


def download(
    prior_id: PriorArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where its files go; `import` and `adapt --prior` take it.")],
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Fetch a prior's files, each checked against its hash."""
    with Client(server) as client:
        files = client.prior(prior_id).files
        paths = {file.name: client.download_prior(prior_id, file, out).absolute() for file in files}
    print_files(paths, as_json=as_json)


def import_prior(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help=f"A folder with {CARD} and {TENSORS}.")],
    prior_id: Annotated[str | None, typer.Option("--id", help="Name that it shall bear; its own if absent.")] = None,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Hand a prior in that was made elsewhere."""
    check_prior(folder)
    with Client(server) as client:
        view = client.import_prior(folder / CARD, folder / TENSORS, prior_id=prior_id)
    if as_json:
        print_json(view)
    else:
        _show((view,))


priors: Final = group(
    "Meta-priors: those that come with the package, or with --server those of a running service; or see to one.",
    {
        "show": show,
        "promote": promote,
        "promotions": promotions,
        "delete": delete,
        "compare": compare,
        "download": download,
        "import": import_prior,
    },
    bare=list_priors,
)


def _show(views: Sequence[PriorView]) -> None:
    listed = table(
        "prior",
        "default",
        "search space",
        "steps",
        "bytes",
        "learned from",
        "parent",
        "mode",
        numbers=frozenset({3, 4}),
    )
    for view in views:
        card = view.card
        row = (
            card.id,
            "yes" if view.default else "",
            card.search_space,
            f"{card.num_steps:,}",
            f"{card.num_bytes:,}",
            _learned_from(view),
            card.parent or "",
            card.mode,
        )
        listed.add_row(*map(Text, row))
    stdout().print(listed)


def _describe(view: PriorView) -> None:
    card = view.card
    macro = card.macro
    facts = table("", "")
    facts.show_header = False
    rows = {
        "prior": card.id + (", which comes with the package" if view.bundled else ""),
        "default": "yes: a request of its space that names no prior gets it" if view.default else "no",
        "search space": card.search_space,
        "skeleton": f"{macro.skeleton}, {macro.num_channels} channels, {macro.num_cells} cells",
        "mode": card.mode,
        "learned from": _learned_from(view),
        "terms": "; ".join(dict.fromkeys(source.terms for source in card.data)),
        "parent": card.parent or "none",
        "made by": card.meta_run_id or card.command,
        "steps": f"{card.num_steps:,} at {', '.join(map(str, card.resolutions))} pixels",
        "adjustments": "; ".join(card.adjustments) or "none",
        "created": card.created_at,
        **{name: f"{curve[-1][1]:.1%}" for name, curve in card.curves.items() if curve and name.startswith("held-out")},
        **{file.name: f"{file.num_bytes:,} bytes" for file in view.files},
    }
    for name, text in rows.items():
        facts.add_row(name, Text(text))
    stdout().print(facts)


def _learned_from(view: PriorView) -> str:
    return ", ".join(f"{source.name} ({len(source.classes)} classes)" for source in view.card.data)
