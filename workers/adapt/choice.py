"""Which architecture: candidates drawn from the posterior, ranked on held-out images with inherited weights."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.architecture import Architecture
from search_spaces.network import Network, build_network, inherit, recalibrate
from search_spaces.spec import Macro
from workers.adapt.data import Part, TaskData, at_once
from workers.adapt.plan import CALIBRATION_IMAGES
from workers.tasks.batches import to_batch

EVAL_BATCH: Final = 256
CHOICE_IMAGES: Final = 500
# Chance that the only one of two equals seems better by more than one standard error.
ONE_SIDED: Final = 1 - NormalDist().cdf(1.0)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A candidate's losses on each held-out image [N], in nats, and its accuracy."""

    architecture: Architecture
    source: str
    losses_N: Tensor
    accuracy: float

    @property
    def loss(self) -> float:
        return float(self.losses_N.mean())


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, from what, and whether searching beat the reference.

    Attributes:
        scores: Of all candidates, best first.
        searching_helped: None where there was no reference to beat.
        verdict: One sentence for the report.
    """

    chosen: Architecture
    scores: tuple[Score, ...]
    searching_helped: bool | None
    verdict: str


def calibration_batches(support: Part, number: int = CALIBRATION_IMAGES) -> Iterator[Tensor]:
    """Yield so many images of the support, spread over it, in batches for the statistics of batch norm."""
    wanted = min(len(support), number)
    index = torch.linspace(0, len(support) - 1, wanted).long().to(support.labels.device)
    # Parts of like size: each weighs the same in the statistics, whatever its number of images.
    for part in index.tensor_split(-(-wanted // at_once(EVAL_BATCH, support.images.shape[1]))):
        yield to_batch(support.images[part], support.images.shape[1])


def inherited_network(arch: Architecture, macro: Macro, parameters: Mapping[str, Tensor], data: TaskData) -> Network:
    """Return the discrete network with inherited weights and statistics of this dataset, in evaluation mode."""
    network = build_network(arch, macro, generator=torch.Generator().manual_seed(0))
    network.to(data.support.labels.device)
    inherit(network, parameters)
    recalibrate(network, calibration_batches(data.support))
    return network.eval()


def predict(network: torch.nn.Module, part: Part) -> Tensor:
    """Return logits [N, K] of a part's images; the network is in evaluation mode."""
    with torch.no_grad():
        return torch.cat([network(images) for images, _ in part.batches(EVAL_BATCH)])


def score(arch: Architecture, source: str, macro: Macro, parameters: Mapping[str, Tensor], data: TaskData) -> Score:
    """Judge one architecture by held-out images, without training it: more candidates rather than more images each."""
    query = data.query.first(CHOICE_IMAGES)
    logits_NK = predict(inherited_network(arch, macro, parameters, data), query)
    losses_N = F.cross_entropy(logits_NK, query.labels, reduction="none")
    accuracy = float((logits_NK.argmax(dim=1) == query.labels).double().mean())
    return Score(architecture=arch, source=source, losses_N=losses_N, accuracy=accuracy)


def choose(reference: Architecture | None, scores: Iterable[Score], *, are_raced: bool) -> Choice:
    """Return the candidate with the least held-out loss, unless it does not beat the reference.

    Among many candidates that were only scored, beating takes more standard errors of the paired difference over the
    held-out images than the best of so many equals would reach (Bonferroni's correction of one standard error). The few
    that were raced had equal chances: there the least loss wins, and the verdict says by how much. Otherwise the
    reference, which is the prior's mode, is what an honest search exports.

    Args:
        reference: The prior's mode within the limits, one of the candidates; None without a prior.
        scores: Of all candidates, at least one.
        are_raced: Whether the candidates were trained for equal seconds.
    """
    ranked = sorted(scores, key=lambda item: item.loss if math.isfinite(item.loss) else math.inf)
    best = ranked[0]
    if reference is None:
        return Choice(
            chosen=best.architecture,
            scores=tuple(ranked),
            searching_helped=None,
            verdict=f"Without a prior there is no mode to beat; the best of {len(ranked)} candidates was taken.",
        )
    mode = next(item for item in ranked if item.architecture == reference)
    gain_N = mode.losses_N - best.losses_N
    error = float(gain_N.std()) / math.sqrt(len(gain_N)) if len(gain_N) > 1 else math.inf
    needed = 0.0 if are_raced else NormalDist().inv_cdf(1 - ONE_SIDED / max(1, len(ranked) - 1))
    gain = float(gain_N.mean())
    if math.isfinite(best.loss) and not math.isfinite(mode.loss):
        verdict = f"The prior's mode diverged; the best of the other {len(ranked) - 1} candidates was taken."
        return Choice(chosen=best.architecture, scores=tuple(ranked), searching_helped=True, verdict=verdict)
    if best.architecture != reference and gain > needed * error:
        verdict = (
            f"Searching helped: held-out loss {best.loss:.3f} against {mode.loss:.3f} of the prior's mode "
            f"({gain / max(error, 1e-9):.1f} standard errors), {len(ranked)} candidates."
        )
        return Choice(chosen=best.architecture, scores=tuple(ranked), searching_helped=True, verdict=verdict)
    margin = "" if are_raced else f" by more than chance would ({needed:.1f} standard errors)"
    verdict = (
        f"Searching brought nothing here: none of {len(ranked)} candidates beat the prior's mode on held-out "
        f"images{margin}, so the mode is exported."
    )
    return Choice(chosen=reference, scores=tuple(ranked), searching_helped=False, verdict=verdict)


def mode_without_race(mode: Architecture, *, has_rivals: bool) -> Choice:
    """Return the choice of the prior's mode where nothing races with it.

    Args:
        mode: Of the prior, within the limits.
        has_rivals: Whether the prior's trials foretell something to be better, which there is no time to test.
    """
    reason = (
        "there was no time to race the prior's mode against what its trials foretell to be better"
        if has_rivals
        else "the prior's trials foretell nothing to be better than its mode by as much as a race costs"
    )
    verdict = f"Searching brought nothing here: {reason}, so the mode is exported."
    return Choice(chosen=mode, scores=(), searching_helped=False, verdict=verdict)
