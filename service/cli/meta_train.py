"""`archprior meta-train`: learn a meta-prior from datasets, in this process."""

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from search_spaces.errors import InvalidOptionError
from service.cli.interrupts import interruptible
from service.cli.local_datasets import local_datasets
from service.cli.meta_runs.options import read_config
from service.cli.options import JsonOption
from service.cli.output import print_json, stderr, stdout
from workers.contracts.priors import PRIOR_ID

if TYPE_CHECKING:
    from workers.meta.learning.state import StepLog


def meta_train(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="PATH[:WEIGHT]",
            help="A folder of class folders, a zip, or a packed npz, and how often tasks come from it; repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for checkpoint, log, prior and card.")],
    split: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="JSON: class names of meta_train, meta_validation, meta_test; one for each --data, in its order.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of a meta-training's configuration; default: a short one.")
    ] = None,
    prior_id: Annotated[str | None, typer.Option("--id", help="Name of the prior; default: the folder's name.")] = None,
    num_steps: Annotated[
        int | None, typer.Option(min=1, help="Pause after so many meta-steps; the same command goes on from there.")
    ] = None,
    terms: Annotated[
        list[str] | None,
        typer.Option(
            help="Terms of the images, for the card; one for each --data, or one for all of them.", show_default=False
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Learn a meta-prior over architectures and weights from datasets; goes on from its checkpoint if there is one."""
    chosen = read_config(config)
    import torch  # takes seconds, and comes with what follows

    from workers.meta.finish import finish
    from workers.meta.learning.data import load_meta_data
    from workers.meta.learning.loop import meta_train as learn

    name = prior_id or out.resolve().name
    if not re.fullmatch(PRIOR_ID, name):
        raise InvalidOptionError("name of the prior", got=name, expected=PRIOR_ID, todo="Choose another with --id.")
    torch.set_num_threads(threads)
    with stderr().status("reading the datasets"):
        meta_data = load_meta_data(local_datasets(data, split or (), terms or ()), max(chosen.resolutions))
    last = min(num_steps or chosen.num_steps, chosen.num_steps)
    with _progress() as progress, interruptible():
        bar = progress.add_task("meta-training", total=last, loss="")

        def show(log: "StepLog") -> None:
            progress.update(bar, completed=log.step + 1, loss=f"loss {log.loss:.3f}")

        state = learn(
            chosen, meta_data.meta_train, meta_data.meta_validation, out,
            dataset_weights=meta_data.dataset_weights, num_steps=last, on_step=show,
        )  # fmt: skip
    if state.step < chosen.num_steps:
        if as_json:
            print_json({"step": state.step, "num_steps": chosen.num_steps, "out": str(out)})
        else:
            stdout().print(f"Paused at step {state.step} of {chosen.num_steps}; the same command goes on.")
        return
    command = f"archprior {shlex.join(sys.argv[1:])}"
    card = finish(state, out, prior_id=name, command=command, data=meta_data.learned_from)
    if as_json:
        print_json(card)
        return
    console = stdout()
    console.print(f"Prior {card.id}: {card.num_bytes / 1e6:.1f} MB in {out}")
    console.print(f"Most likely architecture: {card.mode}", markup=False, soft_wrap=True)
    for name, curve in card.curves.items():
        if name.startswith("held-out"):
            console.print(f"{name}: {curve[-1][1]:.1%}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=stderr(),
    )
