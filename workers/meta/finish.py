"""From a finished meta-training to a prior that others can use: tensors, card, curves."""

import hashlib
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Final

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from search_spaces.registry import SPACES
from workers.bayes.distributions import MetaPrior
from workers.contracts.loss_model import TrialFindings
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import LearnedFrom, PriorCard
from workers.meta.learning.log import StepEntry, read_log
from workers.meta.learning.loop import LOG
from workers.meta.learning.state import MetaState
from workers.priors.loss_model import option_logits
from workers.priors.model import full_macro, mode_of, possible_options
from workers.priors.registry import CARD, TENSORS
from workers.priors.tensors import save_prior

CURVES: Final = "curves.svg"
MAX_POINTS: Final = 100
LIBRARIES: Final = ("archprior", "torch", "numpy")
Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a prior comes from, for its card.

    Attributes:
        command: That made it, or makes it again.
        data: What it learned from.
        parent: Prior that it began from; None: fresh weights.
        parent_data: What that one learned from, whose terms hold for this one too.
        meta_run_id: Meta-run that made it; None: the command line did.
        adjustments: In words: what faults changed of the configuration.
    """

    command: str
    data: Sequence[LearnedFrom]
    parent: str | None = None
    parent_data: Sequence[LearnedFrom] = ()
    meta_run_id: str | None = None
    adjustments: tuple[str, ...] = ()


def finish(
    state: MetaState,
    out: Path,
    *,
    prior_id: str,
    origin: Origin,
    trials: TrialFindings | None = None,
) -> PriorCard:
    """Write the prior of a meta-training in this process into its folder, which holds its log; see `write_prior`."""
    entries = read_log((out / LOG).read_text(encoding="utf-8").splitlines())
    return write_prior(state.prior, state.config, entries, out, prior_id=prior_id, origin=origin, trials=trials)


def write_prior(
    prior: MetaPrior,
    config: MetaConfig,
    entries: Sequence[StepEntry],
    out: Path,
    *,
    prior_id: str,
    origin: Origin,
    trials: TrialFindings | None = None,
) -> PriorCard:
    """Write `prior.safetensors`, `card.json` and `curves.svg` into a folder.

    What trials found replaces the option logits: they are those of the mean dataset then.

    Args:
        prior: Without the persistent heads.
        config: It was learned with.
        entries: Of the log, one a step.
        out: The folder.
        prior_id: Name of the prior.
        origin: For the card.
        trials: What they found, if any were made.
    """
    space = SPACES[config.search_space]
    if trials is not None:
        prior = informed(prior, config, trials)
    path = out / TENSORS
    save_prior(prior, path)
    curves = read_curves(entries)
    card = PriorCard(
        id=prior_id,
        search_space=space.name,
        macro=config.macro,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        num_bytes=path.stat().st_size,
        mode=space.format(mode_of(prior, space)),
        resolutions=config.resolutions,
        num_steps=len(entries),
        inherits=(
            f"An exported network has this prior's skeleton ({config.macro.skeleton}, {config.macro.num_channels} "
            f"channels, {config.macro.num_cells} cells): stem, reductions and the chosen ops of its cells begin at the "
            "prior's means and are trained on. The classifier and the statistics of batch norm are the dataset's own."
            + _learned_alone(config.architectures)
            + _for_training_elsewhere(trials)
        ),
        command=origin.command,
        config=config.model_dump(mode="json"),
        data=tuple(dict.fromkeys([*origin.data, *origin.parent_data])),
        curves=curves,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        parent=origin.parent,
        meta_run_id=origin.meta_run_id,
        adjustments=origin.adjustments,
        trials=trials,
    )
    (out / CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")
    (out / CURVES).write_text(draw(curves), encoding="utf-8")
    return card


def informed(prior: MetaPrior, config: MetaConfig, trials: TrialFindings) -> MetaPrior:
    """Return a prior with the option logits that its trials found, for the mean dataset."""
    macro = full_macro(config.macro, num_classes=2, image_size=config.resolutions[0])
    possible_EO = possible_options(prior.arch_logits)
    logits_EO = option_logits(trials.chooses, SPACES[config.search_space], macro, possible_EO=possible_EO)
    return replace(prior, arch_logits=logits_EO)


def _learned_alone(architectures: Sequence[str]) -> str:
    """Return the sentence that says so where options are ruled out."""
    match architectures:
        case []:
            return ""
        case [only]:
            return f" Only the weights of {only} were learned."
        case _:
            return f" Only ops that one of these has were learned: {', '.join(architectures)}."


def _for_training_elsewhere(trials: TrialFindings | None) -> str:
    """Return the sentence that says so where trials began with fresh weights."""
    if trials is None or trials.config.weights != "fresh":
        return ""
    return " Its trials began with fresh weights: they foretell training from scratch (`archprior recommend`)."


def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def read_curves(entries: Sequence[StepEntry]) -> dict[str, Curve]:
    """Return the run's curves, at most MAX_POINTS points each: loss and entropy as means over stretches of steps."""
    stretch = max(1, -(-len(entries) // MAX_POINTS))
    parts = [entries[start : start + stretch] for start in range(0, len(entries), stretch)]
    curves: dict[str, Curve] = {
        "loss": tuple((part[-1].step + 1, round(fmean(entry.loss for entry in part), 4)) for part in parts),
        "entropy": tuple((part[-1].step + 1, round(fmean(part[-1].entropy), 4)) for part in parts),
    }
    for entry in entries:
        for steps, value in (entry.held_out or {}).items():
            name = f"held-out accuracy after {steps} steps"
            curves[name] = (*curves.get(name, ()), (entry.step + 1, round(value, 4)))
    return curves


def draw(curves: dict[str, Curve]) -> str:
    """Return loss, entropy per decision, and held-out adaptation curves over meta-steps, as an SVG document."""
    panels = (
        ("loss (nats)", ["loss"]),
        ("mean entropy of a decision (nats)", ["entropy"]),
        ("held-out accuracy", [name for name in curves if name.startswith("held-out")]),
    )
    figure = Figure(figsize=(12.6, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    for position, (title, names) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), position)
        for name in names:
            axes.plot(*zip(*curves[name], strict=True), label=name.removeprefix("held-out accuracy "), marker=".")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("meta-step", fontsize=9)
        axes.grid(visible=True, alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize=8)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
