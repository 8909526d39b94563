"""`archprior recommend`: which architecture to train from scratch, elsewhere. Needs no service and no Ray."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from search_spaces.errors import InvalidOptionError
from search_spaces.registry import SPACES
from search_spaces.spec import Cost
from service.cli.interrupts import interruptible
from service.cli.options import JsonOption
from service.cli.output import print_json, stderr, stdout, table
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.base import Contract
from workers.contracts.priors import PriorCard
from workers.priors.registry import CARD, bundled_cards, parse_card

if TYPE_CHECKING:
    from workers.adapt.recommend import Tried

# The bundled prior whose trials began with fresh weights.
PRIOR: Final = "nas_bench_201-deep"
# Of a dataset's description: how long will be trained.
LENGTH: Final = "training_steps"


class TriedView(Contract):
    """An architecture that was tried: its losses in units of what a trial scatters, of which differences count."""

    architecture: str
    foretold: float
    measured: float
    expected: float
    accuracy: float


class RecommendationView(Contract):
    """What to train, what it costs in the prior's skeleton, and what else was tried."""

    architecture: str
    prior: str
    params: int
    macs: int
    resolution: int
    tried: tuple[TriedView, ...]


def recommend(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of class folders, zip of one, or packed npz.")],
    prior: Annotated[
        str, typer.Option(metavar="PRIOR", help="Whose trials began with fresh weights: a bundled one, or a folder.")
    ] = PRIOR,
    max_params: Annotated[int | None, typer.Option(min=1, help="Most parameters, in the prior's skeleton.")] = None,
    max_macs: Annotated[int | None, typer.Option(min=1, help="Most MACs of an image, in the prior's skeleton.")] = None,
    train_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Of 64 images, that it will be trained for; as many as the longest trials if absent."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="To read the data's look and to try architectures.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Trials side by side, each on one CPU thread.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Tell which architecture to train from scratch on a dataset: foretold by a prior, then tried here for a moment."""
    card = _read_card(prior)
    if card.trials is None or card.trials.config.weights != "fresh":
        raise InvalidOptionError(
            f"prior {card.id} foretells nothing of training from scratch",
            got="no trials" if card.trials is None else "trials with inherited weights",
            expected="trials with fresh weights",
            todo="Learn one by `archprior meta-train` with trials.weights 'fresh', or use `archprior adapt`.",
        )
    if train_steps is not None and LENGTH not in card.trials.chooses.context:
        raise InvalidOptionError(
            f"--train-steps: the trials of prior {card.id} show no effect of the length of a training",
            got=train_steps,
            todo="Leave it out, or learn a prior with more trials, of several trials.num_steps_shares.",
        )
    import torch  # takes seconds, and comes with what follows

    from workers.adapt.knowledge import Knowledge
    from workers.adapt.limits import Feasible, Limits
    from workers.adapt.plan import check_limits
    from workers.adapt.recommend import recommend as choose
    from workers.adapt.staging import divide
    from workers.priors.model import full_macro
    from workers.tasks.sources import load_source
    from workers.training.budget import Budget

    torch.set_num_threads(threads)
    side = max(card.resolutions)
    with stderr().status("reading the dataset"):
        loaded = load_source(data, side)
    space = SPACES[card.search_space]
    macro = full_macro(card.macro, num_classes=len(loaded.classes), image_size=side)
    limits = AdaptationRequest(search_space=space.name, max_params=max_params, max_macs=max_macs)
    check_limits(space.minimum_cost(macro), limits)
    task = divide(loaded, seed, torch.device("cpu"))
    feasible = Feasible(space, macro, Limits(max_params=max_params, max_macs=max_macs))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr()) as progress, interruptible():
        bar = progress.add_task("trying what is foretold to be best")

        def tell(tried: "Tried") -> None:
            progress.update(bar, description=f"{space.format(tried.architecture)}: {tried.accuracy:.1%}")

        num_steps = train_steps or card.trials.config.num_steps
        knowledge = Knowledge.of(card.trials, task, space, macro, num_steps=num_steps)
        found = choose(knowledge, task, feasible, Budget(seconds), seed=seed, on_tried=tell)
    cost = space.cost(found.architecture, macro)
    view = RecommendationView(
        architecture=space.format(found.architecture),
        prior=card.id,
        params=cost.params,
        macs=cost.macs,
        resolution=side,
        tried=tuple(
            TriedView(
                architecture=space.format(one.architecture),
                foretold=one.foretold,
                measured=one.measured,
                expected=one.expected,
                accuracy=one.accuracy,
            )
            for one in found.tried
        ),
    )
    if as_json:
        print_json(view)
        return
    _show(view, cost, space.draw_text(found.architecture))


def _show(view: RecommendationView, cost: Cost, drawing: str) -> None:
    console = stdout()
    tried = table("tried", "held-out accuracy", "foretold", "expected", numbers=frozenset({1, 2, 3}))
    for one in view.tried:
        tried.add_row(one.architecture, f"{one.accuracy:.1%}", f"{one.foretold:.2f}", f"{one.expected:.2f}")
    if view.tried:
        console.print(tried)
    else:
        console.print("No time for a trial: what the prior foretells alone.")
    console.print(drawing, markup=False)
    console.print(view.architecture, markup=False, soft_wrap=True)
    console.print(f"{cost.params:,} parameters, {cost.macs:,} MACs at {view.resolution} pixels in the prior's skeleton")


def _read_card(prior: str) -> PriorCard:
    """Return the card of a bundled prior, or of one in a folder."""
    if prior in bundled_cards():
        return bundled_cards()[prior]
    try:
        return parse_card((Path(prior) / CARD).read_bytes(), prior, any_id=True)
    except OSError as error:
        expected = f"a bundled prior, such as {PRIOR}, or a folder that `archprior meta-train` wrote"
        raise InvalidOptionError("--prior: no card there", got=prior, expected=expected) from error
