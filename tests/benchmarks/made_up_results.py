"""Small made-up results, put together by what the benchmarks themselves make of their measurements."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import adapt
from benchmarks.nas_bench_201.judge import Standing, compare, summarize
from benchmarks.priors import leave_one_out, meta_training, ranking, trials
from benchmarks.priors.meta_training_judge import TaskScores
from benchmarks.search import step, step_ranking
from benchmarks.search.step_arms import Measured
from tests.workers.bench.made_up import outcome_of, record_of
from workers.bench.bootstrap import bootstrap
from workers.bench.machine import describe
from workers.bench.results import headline, results_text
from workers.bench.runs import Run, chosen_runs
from workers.bench.suite import Suite
from workers.bench.summary import summarize as summarize_suite
from workers.meta.learning.evaluation import QueryScores

CELLS = {
    "a": "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "b": "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
}
Accuracy = Callable[[Run], float | None]
"""Of a run; None: it has not ended."""


def suite_of(name: str, arms: Mapping[str, object], **fields: object) -> Suite:
    """Datasets a and b, three seeds, 10 s."""
    datasets = {"a": {"path": "a.zip"}, "b": {"path": "b.zip"}}
    given = {"name": name, "reference": "adapted", "seeds": [0, 1, 2], "budgets_s": [10], "datasets": datasets}
    return Suite.model_validate({**given, "arms": arms, **fields})


def tasks_suite() -> Suite:
    fresh = {"prior": "none", "search": "given"}
    cells = {
        f"cell_of_{name}": {
            **fresh,
            "reference": "adapted_fresh",
            "architecture": {"architecture_of": "adapted", "dataset": name},
            "datasets": [other],
        }
        for name, other in (("a", "b"), ("b", "a"))
    }
    return suite_of(
        "tasks",
        {
            "adapted": {"about": "searched from the prior"},
            "prior_mode": {"search": "prior_mode"},
            "random": {"search": "random"},
            "adapted_fresh": {**fresh, "architecture": {"architecture_of": "adapted"}},
            "random_fresh": {**fresh, "architecture": {"architecture_of": "random"}},
            **cells,
        },
    )


def put_suite(
    folder: Path,
    suite: Suite,
    accuracy: Accuracy,
    *,
    sharing: str | None = None,
    architecture: str | None = None,
    most_s: float = math.inf,
) -> None:
    """Write the file of results of a suite.

    Args:
        folder: Of the file.
        suite: That was run.
        accuracy: Of a run.
        sharing: Arm whose runs have the outcomes of others.
        architecture: Of all runs; None: each arm has its own.
        most_s: That a run takes of its seconds.
    """
    runs = chosen_runs(suite)
    found = {run: accuracy(run) for run in runs}
    records = {
        run: record_of(
            run,
            outcome_of(
                accuracy=value,
                architecture=architecture or run.arm,
                timings_s={"total": min(most_s, run.budget_s)},
            ),
        )
        for run, value in found.items()
        if value is not None
    }
    for run in (run for run in records if run.arm == sharing):
        records[run] = records[run].model_copy(update={"same_as": "another"})
    head = headline(suite, "0" * 64, runs, records)
    assert head["complete"] == (len(records) == len(runs))
    text = results_text(head, describe(f"archprior bench {suite.name}.json"), suite, records)
    summary = summarize_suite(suite, records)
    assert len(summary.groups) <= len(runs)
    (folder / f"{suite.name}.json").write_text(text)


def put(folder: Path, name: str, document: Mapping[str, object]) -> None:
    (folder / f"{name}.json").write_text(json.dumps({**document, **describe(f"python -m benchmarks.{name}")}))


def put_nas201(
    folder: Path,
    *,
    ours_top: float,
    ours_regret: float,
    caps: Sequence[str],
    seeds: int = 5,
    without: Sequence[str] = (),
) -> None:
    others = {"naswot": 4.0, "most_params": 5.0, "random_best_of_n": 4.5, "constant_by_table_of_cifar100": 1.0}
    regrets = {"ours": ours_regret, **others}
    standings = [
        Standing(arm=arm, cap=cap, seed=seed, cells=("000000",), accuracy=80.0, regret=regret, top=ours_top)
        for arm, regret in regrets.items()
        if arm not in without
        for cap in caps
        for seed in range(seeds)
    ]
    by_cap = {cap: [one for one in standings if one.cap == cap] for cap in caps}
    document = {
        "benchmark": "nas201",
        "column": "e12_cifar10-val",
        "seconds": 60.0,
        "threads": 2,
        "clock": "cpu",
        "seeds": seeds,
        "used_s": {"ours": 61.0, "naswot": 60.0, "most_params": 0.1},
        "prior": "nas_bench_201-v4",
        "caps": {
            cap: {
                "max_macs": 1000,
                "num_cells": 10,
                "best": 84.0,
                "mean": 70.0,
                "worst": 20.0,
                "arms": {arm: asdict(summary) for arm, summary in summarize(found).items()},
            }
            for cap, found in by_cap.items()
        },
        "ours_under_caps": compare([one for one in standings if one.cap != "100%"], "ours"),
    }
    put(folder, "nas201", document)


def put_ranking(folder: Path, prior: str, *, ranks: float, params: float, architectures: int = 100) -> None:
    def judged(tau: float) -> dict[str, float]:
        return {"tau": tau, "precision_top_5_percent": 0.4, "regret": 0.1}

    tasks = [{"params": judged(params + shift), "ranks": judged(ranks + shift)} for shift in (0.0, 0.1)]
    by_domain = {"emoji": ranking.means(tasks[:1]), "mnist": ranking.means(tasks[1:])}
    document = {"benchmark": "ranking", "prior": prior, "architectures": architectures, "mean": ranking.means(tasks)}
    put(folder, f"ranking_{prior}", {**document, "tasks": {"emoji": 1, "mnist": 1}, "by_domain": by_domain})


def put_trials(folder: Path, *, look: float) -> None:
    """`look`: what the whole model's accuracy has above that without it."""
    judged = [
        {way: {"accuracy": 0.6 - gap, "nll": 0.5 + gap, "tau": 0.4} for way, gap in gaps.items()}
        for gaps in [{"whole": 0.0, "without look": look, "without everything": 0.2}] * 12
    ]
    ways = {way: trials.means(judged, way) for way in judged[0]}
    put(
        folder,
        "trials_made",
        {"benchmark": "trials", "prior": "made", "tasks": 12, "trials": 96, "weights": "fresh", "ways": ways},
    )


def put_step(folder: Path, *, product: float) -> None:
    """`product` images a second, against one of all others."""

    def measured(images: float) -> Measured:
        sizes = {"idle_bytes": 1_000_000, "peak_bytes": 2_000_000, "peak_device_bytes": 0}
        return Measured(num_steps=1, num_images=100, wall_s=100 / images, cpu_s=200 / images, **sizes)

    rounds = [{name: measured(product if name == step.PRODUCT else 1.0) for name in step.WAYS}]
    row = {"space": "darts", "side": 32, "batch": 32, "mode": "sampled", **step.row([measured(1.0)])}
    document = {"benchmark": "step", "reference": "darts", "threads": 2, "grid": [row], "gpu": "not run"}
    put(folder, "step", {**document, **step.summarize(rounds)})


def put_step_ranking(folder: Path) -> None:
    compared = step_ranking.compare([[(10.0, 0.2), (20.0, 0.4)]], [[(10.0, 0.5), (20.0, 0.6)]])
    document = {"benchmark": "step_ranking", "cpu_s_each": 20.0, "cells": 100, "data": "cifar10_test.npz"}
    put(folder, "step_ranking", {**document, "time_to_equal_rank_correlation": compared})


def put_leave_one_out(folder: Path, *, complete: bool = True, mark: str | None = None) -> None:
    scores = {
        "all": [[0.5, 0.6, 0.7], [0.5, 0.7, 0.8]],
        "without": [[0.4, 0.5, 0.6], [0.4, 0.6, 0.7]],
        "none": [[0.2, 0.3, 0.4], [0.2, 0.4, 0.5]],
    }
    document = {"benchmark": "leave_one_out", "complete": complete, "num_steps": 10, "num_tasks": 2}
    domains = {"emoji": {"num_classes": 3, **leave_one_out.compare(scores)}}
    name = "leave_one_out" if mark is None else f"leave_one_out_without_{mark}"
    put(folder, name, {**document, "domains": domains, "without_mark": mark})


def put_meta_training(folder: Path, *changes: Mapping[str, object]) -> None:
    """The base, and a variant for each of some changes, each better than the one before by 10 points."""

    def tasks(gain: float) -> list[TaskScores]:
        def scores(task: int) -> dict[int, QueryScores]:
            accuracy = 0.4 + 0.1 * task + gain
            return {steps: QueryScores(accuracy=accuracy, nll=1.0, calibration_error=0.05) for steps in (0, 4, 16)}

        return [
            TaskScores(domain="emoji", number=task, at_mode=scores(task), at_cell=scores(task)) for task in range(2)
        ]

    variants = {}
    for number, learn in enumerate(({}, *changes)):
        told = {"learn": learn, "judge": {}, "num_steps": 10, "cpu_s": 1.0, "mode": CELLS["a"], "entropy": 1.0}
        name = f"variant_{number}" if number else "base"
        variants[name] = told | meta_training.summary(tasks(0.1 * number), tasks(0.0))
    document = {"benchmark": "meta_training", "complete": True, "warm_up_cpu_s": 5.0, "cpu_s": 10.0, "num_tasks": 2}
    put(folder, "meta_training", {**document, "variants": variants})


def put_meta_compute(folder: Path, *, last_gain: float, complete: bool = True) -> None:
    """Three priors; the second is better than the first by 10 points in each of two tasks, the third by `last_gain`."""

    def scores(gain: float) -> list[dict[int, QueryScores]]:
        return [
            {steps: QueryScores(accuracy=level + gain, nll=1.0, calibration_error=0.05) for steps in (0, 4, 16)}
            for level in (0.4, 0.6)
        ]

    gains = (0.0, 0.1, 0.1 + last_gain)
    curve = []
    for place, gain in enumerate(gains):
        told = meta_training.compare(scores(gain), scores(gains[max(0, place - 1)]))
        point = {"num_steps": 10 * 2**place, "cpu_s": None if place == 2 else 5.0}
        curve.append({**point, **told, "minus_before": told["minus_base"] if place else None})
    document = {"benchmark": "meta_compute", "prior": "own-v1", "complete": complete, "num_tasks": 1}
    put(folder, "meta_compute_own-v1", {**document, "curve": curve})


def put_few_steps(folder: Path, *, fresh: Mapping[int, float], complete: bool = True) -> None:
    """From a prior 40 % after 10 steps and 60 % after 100, from fresh weights what is given."""

    def curve(levels: Mapping[int, float]) -> dict[str, object]:
        return {"rate": 0.01, "accuracy": {steps: bootstrap([level]) for steps, level in levels.items()}}

    curves = {"digits": {"prior": curve({0: 0.3, 10: 0.4, 100: 0.6}), "fresh": curve(fresh)}}
    document = {"benchmark": "few_steps", "prior": "own-v1", "complete": complete, "num_tasks": 1, "side": 24}
    document["rates"] = (0.001, 0.01, 0.1)
    put(folder, "few_steps_own-v1", {**document, "curves": curves})


def put_adapt(folder: Path, *, seeds: int = 5) -> None:
    levels = {
        "adapt": 0.6,
        "prior_mode": 0.57,
        "random": 0.6,
        "no_prior": 0.4,
        "searched_from_scratch": 0.35,
        "adapt_at_32": 0.5,
    }
    runs: dict[str, list[dict[str, object]]] = {
        arm: [
            {"accuracy": level + 0.01 * (seed % (2 + len(arm) % 3)), "total_s": 50.0, "architecture": CELLS["a"]}
            for seed in range(seeds)
        ]
        for arm, level in levels.items()
    }
    (folder / "adapt.json").write_text(json.dumps({**adapt.summarize(runs, 60.0, 2), "runs": runs}))
