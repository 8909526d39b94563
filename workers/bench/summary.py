"""What the runs of a suite show: means over seeds, and differences that are paired by dataset and seed. Pure."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from workers.bench.bootstrap import bootstrap
from workers.bench.records import Outcome, RunRecord
from workers.bench.runs import Run
from workers.bench.suite import Suite
from workers.contracts.base import Contract

Measure = Literal["accuracy", "nll", "calibration_error"]


class Mean(Contract):
    """A mean over seeds and its standard error; None where there is one seed only."""

    mean: float
    standard_error: float | None


class Group(Contract):
    """The runs of an arm with one budget on one dataset.

    Attributes:
        num_seeds: Runs that have an outcome.
        num_architectures: Different ones among them.
        num_helped: Runs whose search beat the prior's mode.
    """

    dataset: str
    arm: str
    budget_s: float
    num_seeds: int
    accuracy: Mean
    query_accuracy: Mean | None
    nll: Mean | None
    calibration_error: Mean | None
    params: Mean
    macs: Mean
    num_architectures: int
    num_helped: int


class Difference(Contract):
    """What the reference has more of than an arm, over pairs of runs of the same dataset and seed.

    Attributes:
        measure: What was compared: an accuracy that is larger is better, of the others what is smaller.
        dataset: Of the pairs; None: of all datasets.
        reference_budget_s: The arm's own, where the reference has it; else the reference's least.
        num_pairs: Of runs.
        mean, low, high: Of the difference, in the measure's unit: its mean, and the ends of the 95 % interval that a
            bootstrap over the pairs gives.
    """

    measure: Measure
    dataset: str | None
    arm: str
    budget_s: float
    reference: str
    reference_budget_s: float
    num_pairs: int
    mean: float
    low: float
    high: float


class Summary(Contract):
    """What the runs show so far."""

    reference: str
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]


def summarize(suite: Suite, records: Mapping[Run, RunRecord]) -> Summary:
    """Return what the runs that have an outcome show; an arm without any is left out."""
    outcomes = {run: record.outcome for run, record in records.items() if record.outcome is not None}
    arms = [(arm, budget_s) for arm in suite.arms for budget_s in suite.budgets_of(arm)]
    groups = []
    differences = []
    for arm, budget_s in arms:
        for dataset in suite.datasets:
            found = [_at(outcomes, dataset, arm, seed, budget_s) for seed in suite.seeds]
            if measured := [outcome for outcome in found if outcome is not None]:
                groups.append(_group(measured, dataset=dataset, arm=arm, budget_s=budget_s))
        for measure in get_args(Measure):
            differences += _differences(suite, outcomes, arm, budget_s, measure)
    return Summary(reference=suite.reference, groups=tuple(groups), differences=tuple(differences))


def _differences(
    suite: Suite, outcomes: Mapping[Run, Outcome], arm: str, budget_s: float, measure: Measure
) -> list[Difference]:
    reference = suite.reference_of(arm)
    budgets = suite.budgets_of(reference)
    reference_s = budget_s if budget_s in budgets else min(budgets)
    if (arm, budget_s) == (reference, reference_s):
        return []
    by_dataset: dict[str, list[float]] = {}
    for dataset in suite.datasets:
        pairs = [
            [
                _measured(_at(outcomes, dataset, name, seed, seconds), measure)
                for name, seconds in ((reference, reference_s), (arm, budget_s))
            ]
            for seed in suite.seeds
        ]
        values = [one - other for one, other in pairs if one is not None and other is not None]
        if values:
            by_dataset[dataset] = values
    every = [value for values in by_dataset.values() for value in values]
    parts: list[tuple[str | None, list[float]]] = [*by_dataset.items(), *([(None, every)] if every else [])]
    return [
        Difference(
            measure=measure,
            dataset=dataset,
            arm=arm,
            budget_s=budget_s,
            reference=reference,
            reference_budget_s=reference_s,
            num_pairs=len(values),
            **bootstrap(values),
        )
        for dataset, values in parts
    ]


def _measured(outcome: Outcome | None, measure: Measure) -> float | None:
    if outcome is None:
        return None
    return {"accuracy": outcome.accuracy, "nll": outcome.nll, "calibration_error": outcome.calibration_error}[measure]


def _at(outcomes: Mapping[Run, Outcome], dataset: str, arm: str, seed: int, budget_s: float) -> Outcome | None:
    return outcomes.get(Run(dataset=dataset, arm=arm, seed=seed, budget_s=budget_s))


def _group(outcomes: Sequence[Outcome], *, dataset: str, arm: str, budget_s: float) -> Group:
    accuracy, params, macs = (
        mean_of(values)
        for values in (
            [one.accuracy for one in outcomes],
            [float(one.params) for one in outcomes],
            [float(one.macs) for one in outcomes],
        )
    )
    return Group(
        dataset=dataset,
        arm=arm,
        budget_s=budget_s,
        num_seeds=len(outcomes),
        accuracy=accuracy,
        query_accuracy=_mean_of_known(one.query_accuracy for one in outcomes),
        nll=_mean_of_known(one.nll for one in outcomes),
        calibration_error=_mean_of_known(one.calibration_error for one in outcomes),
        params=params,
        macs=macs,
        num_architectures=len({one.architecture for one in outcomes}),
        num_helped=sum(one.searching_helped is True for one in outcomes),
    )


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of some values, at least one, and its standard error: s / sqrt(n)."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Mean(mean=round(statistics.fmean(values), 6), standard_error=None if error is None else round(error, 6))


def _mean_of_known(values: Iterable[float | None]) -> Mean | None:
    known = [value for value in values if value is not None]
    return mean_of(known) if known else None
