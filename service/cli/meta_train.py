"""`archprior meta-train`: learn a meta-prior from datasets, in this process."""

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from search_spaces.errors import InvalidOptionError
from search_spaces.registry import SPACES
from service.cli.inputs import check_prior
from service.cli.interrupts import interruptible
from service.cli.local_datasets import local_datasets
from service.cli.meta_runs.options import read_config
from service.cli.options import JsonOption
from service.cli.output import print_json, stderr, stdout
from workers.contracts.errors import InvalidPriorError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import PRIOR_ID
from workers.priors.registry import CARD, TENSORS, parse_card

if TYPE_CHECKING:
    from workers.meta.learning.loop import Parent
    from workers.meta.learning.state import StepLog
    from workers.meta.trials.trial import Trial


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
    parent: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the prior to begin from; default: fresh weights.")
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
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a step; then trials side by side.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Learn a meta-prior over architectures and weights from datasets; goes on from its checkpoint if there is one."""
    chosen = read_config(config)
    import torch  # takes seconds, and comes with what follows

    from workers.meta.finish import Origin, finish
    from workers.meta.learning.data import load_meta_data
    from workers.meta.learning.loop import meta_train as learn
    from workers.meta.trials.campaign import run_trials
    from workers.meta.trials.trial import Workshop

    name = prior_id or out.resolve().name
    if not re.fullmatch(PRIOR_ID, name):
        raise InvalidOptionError("name of the prior", got=name, expected=PRIOR_ID, todo="Choose another with --id.")
    torch.set_num_threads(threads)
    ancestor = None if parent is None else _read_parent(parent, chosen)
    with stderr().status("reading the datasets"):
        meta_data = load_meta_data(local_datasets(data, split or (), terms or ()), max(chosen.resolutions))
    last = min(num_steps or chosen.num_steps, chosen.num_steps)
    with _progress() as progress, interruptible():
        bar = progress.add_task("meta-training", total=last, loss="")

        def show(log: "StepLog") -> None:
            progress.update(bar, completed=log.step + 1, loss=f"loss {log.loss:.3f}")

        state = learn(
            chosen, meta_data.meta_train, meta_data.meta_validation, out,
            dataset_weights=meta_data.dataset_weights, parent=ancestor, num_steps=last, on_step=show,
        )  # fmt: skip
    if state.step < chosen.num_steps:
        if as_json:
            print_json({"step": state.step, "num_steps": chosen.num_steps, "out": str(out)})
        else:
            stdout().print(f"Paused at step {state.step} of {chosen.num_steps}; the same command goes on.")
        return
    findings = None
    if chosen.trials is not None:
        shop = Workshop.build(chosen, chosen.trials, meta_data, state.prior)
        with _progress() as progress, interruptible():
            bar = progress.add_task("trials", total=chosen.trials.num_tasks * chosen.trials.num_archs, loss="")

            def tried(trial: "Trial") -> None:
                progress.update(bar, advance=1, loss=f"accuracy {trial.accuracy:.3f}")

            findings = run_trials(shop, out, at_once=threads, on_trial=tried)
    origin = Origin(
        command=f"archprior {shlex.join(sys.argv[1:])}",
        data=meta_data.learned_from,
        parent=None if ancestor is None else ancestor.id,
        parent_data=() if ancestor is None else ancestor.data,
    )
    card = finish(state, out, prior_id=name, origin=origin, trials=findings)
    if as_json:
        print_json(card)
        return
    console = stdout()
    console.print(f"Prior {card.id}: {card.num_bytes / 1e6:.1f} MB in {out}", markup=False)
    console.print(f"Most likely architecture: {card.mode}", markup=False, soft_wrap=True)
    for name, curve in card.curves.items():
        if name.startswith("held-out"):
            console.print(f"{name}: {curve[-1][1]:.1%}")


def _read_parent(folder: Path, config: MetaConfig) -> "Parent":
    """Return the prior of a folder as one to begin from.

    Raises:
        InvalidOptionError: No prior lies there.
        InvalidPriorError: It is not whole, or of another space or skeleton than the configuration's.
    """
    from workers.meta.learning.loop import Parent
    from workers.priors.model import body_shapes, full_macro
    from workers.priors.tensors import load_prior

    check_prior(folder)
    card = parse_card((folder / CARD).read_bytes(), str(folder), any_id=True)
    asked, found = (config.search_space, config.macro), (card.search_space, card.macro)
    if asked != found:
        raise InvalidPriorError(
            f"prior {card.id} fits another configuration",
            got=f"{found[0]}, {found[1].model_dump_json()}",
            expected=f"{asked[0]}, {asked[1].model_dump_json()}",
            todo="Change search_space and macro of the configuration, or begin from another prior.",
        )
    macro = full_macro(card.macro, num_classes=2, image_size=max(card.resolutions))
    tensors = load_prior(folder / TENSORS, SPACES[card.search_space], body_shapes(card.search_space, macro))
    return Parent(id=card.id, sha256=card.sha256, prior=tensors, data=card.data)


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
