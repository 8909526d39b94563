"""What ArchPrior chooses.

By a prior whose trials began with fresh weights: what they foretell, put to the test (`recommend`). By another: it
contracts on the images, candidates are scored, the few best raced, as in an adaptation.

All that this benchmark knows of `workers.adapt` is here.
"""

import tempfile
from pathlib import Path
from typing import Final

from benchmarks.nas_bench_201.cells import MACRO, SPACE, costs
from benchmarks.nas_bench_201.job import Choice, Job, clock_of, one
from search_spaces.architecture import Architecture
from search_spaces.spec import Macro
from workers.adapt.adaptation import Adaptation
from workers.adapt.data import TaskData
from workers.adapt.knowledge import Knowledge
from workers.adapt.limits import Feasible, Limits
from workers.adapt.plan import export_seconds
from workers.adapt.recommend import recommend
from workers.adapt.reporter import Reporter
from workers.adapt.sync import Group
from workers.bayes.distributions import MetaPrior
from workers.contracts.adaptations import NO_PRIOR, AdaptationRequest, AttemptRequest, Plan
from workers.contracts.loss_model import TrialFindings
from workers.contracts.priors import PriorCard
from workers.priors.model import body_shapes, full_macro
from workers.priors.registry import CARD, TENSORS, parse_card
from workers.priors.tensors import load_prior
from workers.store.folder import FolderStore
from workers.training.budget import Budget

# An adaptation searches for about half of its seconds and trains for the rest; here all of them are for the choice.
SEARCHED_SHARE: Final = 0.5
LEAST_BUDGET_S: Final = 5.0
# Of a network for whose export, too, an adaptation sets seconds aside.
NUM_LAYERS: Final = 46
# The benchmark's cells are trained on half of CIFAR-10's training images.
NUM_TRAINING_IMAGES: Final = 25_000


def choose(job: Job, data: TaskData, budget: Budget) -> Choice:
    """Return what is recommended within the cap; nothing is trained to the end or exported."""
    card = None if job.prior is None else parse_card((job.prior / CARD).read_bytes(), str(job.prior), any_id=True)
    if card is not None and card.trials is not None and card.trials.config.weights == "fresh":
        return _recommended(job, data, budget, card, card.trials)
    return _adapted(job, data, budget, card)


def _recommended(job: Job, data: TaskData, budget: Budget, card: PriorCard, findings: TrialFindings) -> Choice:
    macro = full_macro(card.macro, num_classes=len(data.classes), image_size=max(card.resolutions))
    feasible = Feasible(SPACE, macro, Limits(max_macs=_cap(job, macro)))
    num_examples = min(NUM_TRAINING_IMAGES, len(data.support) + len(data.query))
    num_steps = job.epochs * num_examples // findings.config.batch_size
    knowledge = Knowledge.of(findings, data, SPACE, macro, num_steps=num_steps, num_examples=num_examples)
    found = recommend(knowledge, data, feasible, budget, seed=job.seed)
    return one(found.architecture, len(found.tried), f"prior {card.id}, {len(found.tried)} tried")


def _adapted(job: Job, data: TaskData, budget: Budget, card: PriorCard | None) -> Choice:
    prior, macro, name = _prior(job, data, card)
    max_macs = _cap(job, macro)
    request = AdaptationRequest(
        search_space=SPACE.name,
        prior=name,
        search="supernet" if prior is None else "adapt",
        budget_s=max(LEAST_BUDGET_S, job.seconds),
        max_macs=max_macs,
        num_workers=0,
        seed=job.seed,
    )
    attempt = AttemptRequest(
        adaptation_id="nas-bench-201", attempt=1, request=request, dataset_key="", dataset_sha256=""
    )
    clock = clock_of(job)
    planned, wall = Budget(job.seconds / SEARCHED_SHARE + export_seconds(NUM_LAYERS), clock), Budget(0.0)
    with tempfile.TemporaryDirectory(prefix="archprior-") as folder:
        reporter = Reporter(FolderStore(Path(folder), create=True), "attempt", planned, active=False)
        findings = None if card is None else card.trials
        adaptation = Adaptation(attempt, macro, data, prior, Group(), reporter, planned, findings=findings)
        # What a step takes was measured by the wall's clock.
        slowness = wall.elapsed_s / max(1e-9, planned.elapsed_s)
        adaptation.plan = for_choice_only(adaptation.plan, budget.remaining_s, slowness)
        found = adaptation.run()
    return one(found.chosen, len(found.scores), f"prior {name}, {adaptation.num_search_steps} steps; {found.verdict}")


def for_choice_only(plan: Plan, remaining_s: float, slowness: float) -> Plan:
    """Return the plan whose search, choice and race take all the seconds, in the same proportions.

    Args:
        plan: That trains and exports too.
        remaining_s: For search, choice and race.
        slowness: Seconds of the plan's measurements in one of `remaining_s`.
    """
    factor = remaining_s / max(1e-9, plan.search_s + plan.choice_s + plan.race_s)
    seconds = {name: factor * getattr(plan, name) for name in ("search_s", "choice_s", "race_s")}
    counts = {
        name: int(slowness * factor * getattr(plan, name))
        for name in ("num_search_steps", "num_candidates", "race_steps")
    }
    return plan.model_copy(update={**counts, **seconds})


def equivalent_cap(max_macs: int, macro: Macro) -> int:
    """Return the cap in another skeleton that admits the same cells as one in the benchmark's.

    MACs add over the ops of a cell, and those of a 3x3 convolution are nine times those of a 1x1 one in any skeleton:
    so one skeleton's MACs are a straight line over the other's.
    """
    ends = [min(costs(), key=_macs_of), max(costs(), key=_macs_of)]
    (low, high), (other_low, other_high) = (
        [SPACE.cost(end, one_macro).macs for end in ends] for one_macro in (MACRO, macro)
    )
    return other_low + (max_macs - low) * (other_high - other_low) // (high - low)


def _cap(job: Job, macro: Macro) -> int | None:
    """Return the cap in a skeleton; None: no cell is above it."""
    return None if job.max_macs >= _most_macs(MACRO) else equivalent_cap(job.max_macs, macro)


def _prior(job: Job, data: TaskData, card: PriorCard | None) -> tuple[MetaPrior | None, Macro, str]:
    """Return the prior, the skeleton that its weights fit, with the classes and side of the images, and its name."""
    shape = {"num_classes": len(data.classes), "image_size": data.resolution}
    if job.prior is None or card is None:
        return None, SPACE.default_macro(**shape), NO_PRIOR
    macro = full_macro(card.macro, **shape)
    return load_prior(job.prior / TENSORS, SPACE, body_shapes(SPACE.name, macro)), macro, card.id


def _macs_of(cell: Architecture) -> int:
    return costs()[cell].macs


def _most_macs(macro: Macro) -> int:
    return SPACE.cost(max(costs(), key=_macs_of), macro).macs
