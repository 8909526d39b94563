"""One adaptation, from staged data to a trained network: posterior, choice, race, final training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final

import torch

from search_spaces.architecture import Architecture
from search_spaces.network import Network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro, SearchSpace
from workers.adapt.choice import Choice, Score, choose, inherited_network, mode_without_race, score
from workers.adapt.data import TaskData
from workers.adapt.final import TrainedNetwork, accuracy_on, train_network
from workers.adapt.knowledge import Knowledge
from workers.adapt.limits import Feasible, Limits
from workers.adapt.plan import (
    NUM_FINALISTS,
    Speed,
    affordable_images,
    batch_size,
    export_calibration_images,
    export_seconds,
    make_plan,
)
from workers.adapt.race import race, thrifty_modes
from workers.adapt.reporter import Reporter
from workers.adapt.search import contract
from workers.adapt.start import Start, begin, choose_precision, measure_speed, num_layers
from workers.adapt.sync import Group
from workers.bayes.distributions import MetaPrior
from workers.bayes.randomness import slot_generator
from workers.contracts.adaptations import AdaptationRequest, AttemptRequest, Candidate, Plan
from workers.contracts.base import Precision
from workers.contracts.loss_model import TrialFindings
from workers.priors.loss_model import typical_macs
from workers.priors.model import doubt, leaves_open, possible_options, uniform_logits
from workers.training.budget import Budget
from workers.training.cost import relative_cost, steps_in_equal_time

MODE: Final = "prior's mode"
NUM_TIMED_PATHS: Final = 4
# Architectures that the prior's trials name.
SHORTLIST: Final = 8
# Who races with the prior's mode is foretold to be better than it by as much as a race costs, and worse than the best
# by no more than a trial scatters: both in units of that.
LEAD: Final = 0.25
NEAR: Final = 1.0
PUBLISHED: Final = (
    "Without a prior nothing is searched unless search 'supernet' is asked for: the space's published architecture was "
    "trained."
)
OVER_LIMIT: Final = (
    "Without a prior nothing is searched unless search 'supernet' is asked for: the space's published architecture is "
    "over a limit, so what makes most of the limits was trained."
)
NONE_FITS: Final = "No network that the prior has learned is within the limits: what makes most of them was trained."


class Adaptation:
    """The part between staged data and a trained network; holds what its steps share.

    Attributes:
        plan: What will be done.
        reference: The architecture that is given, or published, or what takes that one's place; else the prior's mode
            within the limits; for the random baseline, or a search without a prior, one drawn uniformly.
        is_searched: Whether the posterior is contracted in the supernet, as far as the seconds go.
        num_search_steps: Steps that the search took.
        num_learned: Images that the final training learns from: most of those that choices were made by, too.
    """

    def __init__(
        self,
        attempt: AttemptRequest,
        macro: Macro,
        data: TaskData,
        prior: MetaPrior | None,
        group: Group,
        reporter: Reporter,
        budget: Budget,
        *,
        findings: TrialFindings | None = None,
    ) -> None:
        request = attempt.request
        self.macro, self.data, self.group, self.reporter, self.budget = macro, data, group, reporter, budget
        self.space: SearchSpace = SPACES[request.search_space]
        self.feasible = Feasible(self.space, macro, Limits(max_params=request.max_params, max_macs=request.max_macs))
        logits_EO = uniform_logits(self.space) if prior is None else prior.arch_logits
        self._draws = slot_generator(request.seed, 0, 0, "candidates")
        # What the first head is fitted on, and to beat: the prior's mode within the limits. Without a prior, and for
        # the random baseline, an architecture drawn uniformly. One that is fixed needs no other.
        is_random = prior is None or request.search == "random"
        fixed = self.feasible.fixed(request)
        self.reference: Architecture = fixed or (
            self._random_architecture() if is_random else self.feasible.mode(logits_EO)
        )
        self.start: Start = begin(
            request.search_space, macro, prior, data, self.reference, request.seed, arch_logits=logits_EO
        )
        self.has_prior = prior is not None
        self._batch_size = batch_size(request, len(data.support), macro.image_size)
        faster = choose_precision(self.start.supernet, data, self.reference, self._batch_size)
        self._precision: Precision = "bfloat16" if group.agree(float(faster == "bfloat16")) > 0 else "float32"
        speed = self._measure_speed(timed=fixed)
        self.knowledge = None
        if findings is not None and request.search == "adapt":
            self.knowledge = self._read(findings, request, speed)
            self.start = replace(self.start, arch_logits=self.knowledge.option_logits)
            self.feasible.restart()
        is_chosen = fixed is None and request.search in ("adapt", "supernet")
        self.is_searched = is_chosen and self.knowledge is None
        self.plan: Plan = self._make_plan(request, speed)
        self._typical_export_s = speed.export_s
        self.num_search_steps = self.num_learned = 0
        self._raced: dict[Architecture, Network] = {}

    def run(self) -> Choice:
        """Return the chosen architecture; the supernet then holds the posterior's weights."""
        match self.plan.search:
            case "prior_mode":
                return _unsearched(
                    self.reference, "The prior's most likely architecture, as asked; nothing was searched."
                )
            case "random":
                return _unsearched(self.reference, "Drawn uniformly, as asked; nothing was searched.")
            case "given":
                return _unsearched(self.reference, "The architecture that was given; nothing was searched.")
            case "adapt" if self.knowledge is not None:
                return self._choose_by_trials(self.knowledge)
            case "adapt" if not self.is_searched:
                return _unsearched(
                    self.reference, PUBLISHED if self.reference == self.space.published() else OVER_LIMIT
                )
            case "adapt" | "supernet":
                return self._search()

    def train(self, arch: Architecture) -> TrainedNetwork:
        """Return the trained network of an architecture, its weights inherited from the posterior.

        What choices were made by is learned from as well now, but for a few images that show how the training goes.
        """
        network = self._raced.get(arch)
        if network is None:
            network = inherited_network(arch, self.macro, dict(self.start.supernet.named_parameters()), self.data)
        # What was set aside to predict all test images was measured on the reference.
        macs = [self.space.cost(one, self.macro).macs for one in (arch, self.reference)]
        passes_s = (self.plan.export_s - self._typical_export_s) * relative_cost(*macs)
        export_s = export_seconds(num_layers(network)) + passes_s
        train_s = max(0.5, self.budget.remaining_s - export_s)
        since_s = self.budget.elapsed_s
        offset = self.num_search_steps

        def on_step(step: int, loss: float) -> None:
            self.reporter.record("train_loss", offset + step, loss)
            self.reporter.tick(offset + step)

        learned, watched = self.data.after_choice()
        self.num_learned = len(learned)

        def on_point(step: int) -> None:
            accuracy = accuracy_on(network, watched)
            self.reporter.record("query_accuracy", offset + step, accuracy)
            self.reporter.found(Candidate(architecture=self.space.format(arch), query_accuracy=accuracy))

        return train_network(
            network,
            learned,
            self.plan,
            self.group,
            purpose="final",
            share_of_time=lambda: (self.budget.elapsed_s - since_s) / train_s,
            num_calibrated=export_calibration_images(self.macro.image_size),
            on_step=on_step,
            on_point=on_point,
        )

    def _choose_by_trials(self, knowledge: Knowledge) -> Choice:
        """Return the winner of a race of the prior's mode with what its trials foretell to be better.

        Nothing is searched in the supernet: its steps would move the weights along paths that nobody trains on.
        """
        if not leaves_open(self.start.arch_logits, self.space, self.reference):
            return _unsearched(self.reference, NONE_FITS)
        named = knowledge.shortlist(self.feasible, SHORTLIST, self._draws)
        own = self.space.signature(self.reference)
        archs = [self.reference, *(arch for arch in named if self.space.signature(arch) != own)]
        foretold = self._agreed(archs, knowledge.foretell(archs).tolist())
        worst = min(min(foretold.values()) + NEAR, foretold[self.reference] - LEAD)
        better = [arch for arch in archs[1:] if foretold[arch] <= worst]
        if not better or not self.plan.race_steps:
            return mode_without_race(self.reference, has_rivals=bool(better))
        if len(better) >= NUM_FINALISTS:
            better = self._most_promising(better, knowledge)
        sources = {self.reference: MODE, **dict.fromkeys(better, "foretold by the prior's trials")}
        return self._chosen(self._race(sources), are_raced=True)

    def _most_promising(self, archs: Sequence[Architecture], knowledge: Knowledge) -> list[Architecture]:
        """Return as many as may race with the prior's mode, by what is foretold from their scores as well."""
        scores = self._scored(dict.fromkeys(archs, "foretold by the prior's trials"))
        scored = [item.architecture for item in scores]
        one_shot = [item.loss / math.log(self.macro.num_classes) for item in scores]
        merits = self._agreed(scored, knowledge.foretell(scored, one_shot).tolist())
        return sorted(merits, key=merits.__getitem__)[: NUM_FINALISTS - 1]

    def _search(self) -> Choice:
        """Return the choice after contracting the posterior: the winner of a race of its best candidates."""
        supernet, plan = self.start.supernet, self.plan
        # A machine that turns out slower than measured may take half as long again, then the clock decides.
        deadline_s = self.budget.elapsed_s + 1.5 * plan.search_s + 1.0

        def on_step(step: int, loss: float, logits_EO: torch.Tensor) -> bool:
            self.reporter.record("search_loss", step, loss)
            log_p_EO = torch.log_softmax(logits_EO, dim=-1)
            self.reporter.record("entropy", step, float(-(log_p_EO.exp() * log_p_EO).sum(dim=-1).mean()))
            self.reporter.tick(step)
            return self.group.agree(float(self.budget.elapsed_s < deadline_s)) > 0

        posterior = contract(
            supernet, self.start.arch_logits, self.data, plan, self.feasible, self.group, on_step=on_step
        )
        self.num_search_steps = posterior.num_steps
        # The modes come first; the clock may cut the drawn ones.
        sources = {self.reference: MODE} if self.has_prior else {}
        sources.setdefault(self.feasible.mode(posterior.arch_logits), "posterior's mode")
        tilted_EO = self.feasible.tilt(posterior.arch_logits, self._draws)
        for arch in self.feasible.sample(tilted_EO, plan.num_candidates, self._draws):
            sources.setdefault(arch, "drawn from the posterior")
        scores = self._scored(sources)
        # Raced networks have been trained and one-shot ones have not: their losses do not compare.
        raced = self._race(self._finalists(scores, sources, posterior.arch_logits)) if plan.race_steps else []
        others = sorted(scores, key=lambda item: item.loss) if raced else ()
        choice = self._chosen(raced or scores, are_raced=bool(raced))
        known = {item.architecture for item in choice.scores}
        return replace(choice, scores=(*choice.scores, *(item for item in others if item.architecture not in known)))

    def _scored(self, sources: Mapping[Architecture, str]) -> list[Score]:
        """Return the scores of architectures, by where each comes from; the clock may cut the last ones."""
        deadline_s = self.budget.elapsed_s + 1.5 * self.plan.choice_s + 1.0
        parameters = dict(self.start.supernet.named_parameters())
        scores: list[Score] = []
        for arch, source in sources.items():
            scores.append(score(arch, source, self.macro, parameters, self.data))
            leader = min(scores, key=lambda item: item.loss)
            self.reporter.found(
                Candidate(architecture=self.space.format(leader.architecture), query_accuracy=leader.accuracy)
            )
            self.reporter.tick(self.num_search_steps)
            is_late = self.group.agree(float(self.budget.elapsed_s > deadline_s)) > 0
            if is_late and len(scores) >= min(2, len(sources)):
                break
        return scores

    def _finalists(
        self, scores: list[Score], sources: Mapping[Architecture, str], logits_EO: torch.Tensor
    ) -> dict[Architecture, str]:
        """Return who is to race, and where each comes from.

        The prior's mode, if there is one, the candidate of least loss, and the most likely architectures at less cost.
        """
        finalists = {self.reference: MODE} if self.has_prior else {}
        losses = self._agreed([item.architecture for item in scores], [item.loss for item in scores])
        for arch in sorted(losses, key=losses.__getitem__):
            if len(finalists) < 1 + self.has_prior:
                finalists.setdefault(arch, sources[arch])
        for arch in thrifty_modes(next(iter(finalists)), logits_EO, self.macro, self.feasible.limits):
            finalists.setdefault(arch, "most likely at a lower cost")
        return finalists

    def _chosen(self, rivals: Sequence[Score], *, are_raced: bool) -> Choice:
        """Return the choice among rivals, that of rank 0."""
        choice = choose(self.reference if self.has_prior else None, rivals, are_raced=are_raced)
        archs = [item.architecture for item in rivals]
        return replace(choice, chosen=archs[int(self.group.agree(float(archs.index(choice.chosen))))])

    def _agreed(self, archs: Sequence[Architecture], values: Sequence[float]) -> dict[Architecture, float]:
        """Return what architectures go by, less is better, as rank 0 knows it; infinite where it is not finite."""
        agreed = (self.group.agree(value) for value in values)
        known = (value if math.isfinite(value) else math.inf for value in agreed)
        return dict(zip(archs, known, strict=True))

    def _race(self, finalists: dict[Architecture, str]) -> list[Score]:
        """Return the scores of the raced finalists; their networks are kept for the final training."""
        offset = self.num_search_steps

        def on_step(step: int, loss: float) -> None:
            self.reporter.record("race_loss", offset + step, loss)
            self.reporter.tick(offset + step)

        raced = race(
            finalists,
            self.reference,
            dict(self.start.supernet.named_parameters()),
            self.macro,
            self.data,
            self.plan,
            self.group,
            elapsed_s=lambda: self.budget.elapsed_s,
            on_step=on_step,
        )
        self._raced = {finalist.score.architecture: finalist.network for finalist in raced}
        return [finalist.score for finalist in raced]

    def _measure_speed(self, timed: Architecture | None) -> Speed:
        """Return how fast things go here: along paths drawn from the prior, or along the one that is given."""
        tilted_EO = self.feasible.tilt(self.start.arch_logits, self._draws)
        paths = self.feasible.paths(tilted_EO, self._draws)
        along = [timed] if timed else [next(paths) for _ in range(NUM_TIMED_PATHS)]
        measured = measure_speed(
            self.start.supernet, self.data, self.reference, along, self._precision, self._batch_size
        )
        # Speeds differ between ranks; rank 0's hold, so that all make the same plan.
        return Speed(**{name: self.group.agree(value) for name, value in asdict(measured).items()})

    def _read(self, findings: TrialFindings, request: AdaptationRequest, speed: Speed) -> Knowledge:
        """Return what the prior's trials say of this dataset, and of a training as long as the budget affords."""
        remaining_s = self.group.agree(self.budget.remaining_s)
        num_images = affordable_images(request, self.macro, self.data.sizes, speed, remaining_s)
        # The trials' steps, as the budget's are of other numbers of images.
        num_steps = max(1, num_images // min(findings.config.batch_size, len(self.data.support)))
        macs = self.space.cost(self.reference, self.macro).macs
        return Knowledge.of(
            findings,
            self.data,
            self.space,
            self.macro,
            num_steps=steps_in_equal_time(num_steps, typical_macs(self.space.name, self.macro), macs),
            possible=possible_options(self.start.arch_logits),
            group=self.group,
        )

    def _make_plan(self, request: AdaptationRequest, speed: Speed) -> Plan:
        return make_plan(
            request,
            self.macro,
            self.data.sizes,
            speed,
            remaining_s=self.group.agree(self.budget.remaining_s),
            flip=self.group.agree(float(self.start.flip)) > 0,
            precision=self._precision,
            doubt=doubt(self.start.arch_logits),
            reads=self.knowledge is not None,
        )

    def _random_architecture(self) -> Architecture:
        uniform_EO = uniform_logits(self.space)
        return next(self.feasible.paths(self.feasible.tilt(uniform_EO, self._draws), self._draws))


def _unsearched(arch: Architecture, verdict: str) -> Choice:
    return Choice(chosen=arch, scores=(), searching_helped=None, verdict=verdict)
