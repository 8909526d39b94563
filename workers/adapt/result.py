"""The numbers of a finished attempt: every figure of its report, from where it was measured."""

import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from search_spaces.spec import Macro, SearchSpace
from workers.adapt.adaptation import Adaptation
from workers.adapt.choice import Choice
from workers.adapt.evaluate import Evaluation
from workers.adapt.final import TrainedNetwork
from workers.adapt.plan import choose_resolution
from workers.contracts.adaptations import NO_PRIOR, AttemptRequest
from workers.contracts.artifacts import CandidateReport, CostReport, Metrics
from workers.contracts.datasets import DatasetReport
from workers.contracts.priors import PriorCard
from workers.priors.model import leaves_open

LIBRARIES: Final = ("archprior", "torch", "ray", "onnx", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished attempt, to be put into numbers."""

    attempt: AttemptRequest
    adaptation: Adaptation
    choice: Choice
    trained: TrainedNetwork
    evaluation: Evaluation
    report: DatasetReport
    card: PriorCard | None

    def metrics(self, max_reload_difference: dict[str, float]) -> Metrics:
        """Return every number of the report."""
        attempt, adaptation, choice = self.attempt, self.adaptation, self.choice
        space, macro, sizes = adaptation.space, adaptation.macro, adaptation.data.sizes
        cost = space.cost(choice.chosen, macro)
        timings_s = dict(adaptation.reporter.timer.seconds())
        return Metrics(
            adaptation_id=attempt.adaptation_id,
            attempt=attempt.attempt,
            request=attempt.request,
            architecture=space.format(choice.chosen),
            prior=attempt.request.prior or NO_PRIOR,
            accuracy=self.evaluation.accuracy,
            accuracy_interval=self.evaluation.interval,
            per_class_accuracy=self.evaluation.per_class,
            nll=self.evaluation.nll,
            calibration_error=self.evaluation.calibration_error,
            num_train=sizes.train,
            num_query=sizes.query,
            num_test=sizes.test,
            num_learned=adaptation.num_learned,
            repeats_left_out=adaptation.data.repeats.left_out,
            repeats_in_test=adaptation.data.repeats.in_test,
            resolution=macro.image_size,
            cost=CostReport(params=cost.params, macs=cost.macs),
            candidates=_candidate_reports(choice, space, macro),
            searching_helped=choice.searching_helped,
            verdict=choice.verdict + self._let_in(),
            budget_note=self._budget_note(),
            timings_s={**timings_s, "total": round(adaptation.budget.elapsed_s, 3)},
            series=adaptation.reporter.series,
            max_reload_difference=max_reload_difference,
            skipped_images=len(self.report.skipped),
            dataset_sha256=attempt.dataset_sha256,
            seed=attempt.request.seed,
            plan=adaptation.plan.model_dump(),
            versions=versions(),
            prior_data={} if self.card is None else self.card.terms,
        )

    def _let_in(self) -> str:
        """Return what to say of ops that the prior had ruled out."""
        start, space = self.adaptation.start, self.adaptation.space
        if leaves_open(start.arch_logits, space, self.choice.chosen):
            return ""
        return " It has ops that the prior had ruled out: what weights those have began at random."

    def _budget_note(self) -> str:
        plan, notes = self.adaptation.plan, []
        if self.adaptation.is_searched and plan.num_search_steps == 0:
            notes.append("The budget was too short to search: the best architecture known at the start was trained.")
        elif self.adaptation.num_search_steps < plan.num_search_steps:
            notes.append(f"The search stopped at step {self.adaptation.num_search_steps} of {plan.num_search_steps}.")
        epochs = self.trained.num_steps * plan.batch_size * max(1, plan.num_workers) / self.adaptation.num_learned
        if epochs < 1:
            notes.append(f"Training saw {epochs:.0%} of the images once: more seconds would help.")
        full_side = choose_resolution(self.attempt.request, self.report)
        if plan.resolution < full_side:
            notes.append(
                f"The seconds do not afford enough looks at images of {full_side} pixels: all were shrunk to "
                f"{plan.resolution}."
            )
        return " ".join(notes)


def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def _candidate_reports(choice: Choice, space: SearchSpace, macro: Macro) -> tuple[CandidateReport, ...]:
    reports = []
    for item in choice.scores:
        cost = space.cost(item.architecture, macro)
        reports.append(
            CandidateReport(
                architecture=space.format(item.architecture),
                query_accuracy=item.accuracy,
                query_loss=item.loss,
                params=cost.params,
                macs=cost.macs,
                source=item.source,
                chosen=item.architecture == choice.chosen,
            )
        )
    return tuple(reports)
