"""Means over seeds and paired differences, and the file that holds them."""

import json
from collections.abc import Callable

import pytest

from tests.workers.bench.made_up import CELL, OTHER, outcome_of, record_of
from workers.bench.results import headline, results_text
from workers.bench.runs import Run, chosen_runs
from workers.bench.suite import Suite
from workers.bench.summary import mean_of, summarize

MakeSuite = Callable[..., Suite]


def at(arm: str, seed: int, dataset: str = "colors", budget_s: float = 10) -> Run:
    return Run(dataset=dataset, arm=arm, seed=seed, budget_s=budget_s)


def test_a_mean_has_its_standard_error() -> None:
    assert mean_of([0.2, 0.4, 0.6]).mean == pytest.approx(0.4)
    assert mean_of([0.2, 0.4, 0.6]).standard_error == pytest.approx(0.2 / 3**0.5, abs=1e-6)
    assert mean_of([0.2]).standard_error is None


def test_groups_are_of_dataset_arm_and_budget(suite: Suite) -> None:
    records = {
        run: record_of(run, outcome_of(accuracy=accuracy, architecture=cell, searching_helped=helped, nll=nll))
        for run, accuracy, cell, helped, nll in (
            (at("adapted", 0), 0.8, CELL, True, 1.0),
            (at("adapted", 1), 0.9, OTHER, False, None),
            (at("fixed", 0), 0.5, CELL, None, None),
        )
    }
    records[at("fixed", 1)] = record_of(at("fixed", 1), None)

    adapted, fixed = summarize(suite, records).groups

    assert (adapted.num_seeds, adapted.accuracy.mean) == (2, pytest.approx(0.85))
    assert (adapted.num_architectures, adapted.num_helped) == (2, 1)
    assert adapted.nll is not None
    assert adapted.nll.mean == 1.0
    assert (fixed.arm, fixed.num_seeds, fixed.nll) == ("fixed", 1, None)


def test_differences_are_paired_by_dataset_and_seed(suite: Suite) -> None:
    """Seeds differ by far more than arms: unpaired, nothing would show. A seed that one arm lacks counts for none."""
    accuracies = {
        at("adapted", 0): 0.30, at("adapted", 1): 0.90, at("adapted", 0, "shades"): 0.5,
        at("fixed", 0): 0.28, at("fixed", 1): 0.88, at("fixed", 0, "shades"): 0.48, at("fixed", 1, "shades"): 0.99,
    }  # fmt: skip
    records = {run: record_of(run, outcome_of(accuracy=accuracy)) for run, accuracy in accuracies.items()}

    differences = summarize(suite, records).differences
    found = {one.dataset: one for one in differences if one.measure == "accuracy"}

    assert {name: one.num_pairs for name, one in found.items()} == {"colors": 2, "shades": 1, None: 3}
    assert all(one.arm == "fixed" for one in found.values())
    assert (found[None].mean, found[None].low, found[None].high) == (0.02, 0.02, 0.02)


def test_an_arm_may_be_compared_with_another_than_the_suites_reference(make_suite: MakeSuite) -> None:
    suite = make_suite(arms={"adapted": {}, "a": {}, "b": {"reference": "a"}}, seeds=[0])
    accuracies = {at("adapted", 0): 0.9, at("a", 0): 0.7, at("b", 0): 0.4}
    records = {run: record_of(run, outcome_of(accuracy=accuracy)) for run, accuracy in accuracies.items()}

    found = [one for one in summarize(suite, records).differences if one.measure == "accuracy" and one.dataset is None]

    assert [(one.arm, one.reference, one.mean) for one in found] == [("a", "adapted", 0.2), ("b", "a", 0.3)]


def test_likelihood_and_calibration_are_compared_too_where_they_were_measured(suite: Suite) -> None:
    records = {
        run: record_of(run, outcome_of(nll=nll, calibration_error=error))
        for run, nll, error in (
            (at("adapted", 0), 1.0, 0.1),
            (at("adapted", 1), 2.0, None),
            (at("fixed", 0), 1.5, 0.3),
            (at("fixed", 1), 2.5, 0.3),
        )
    }

    found = {one.measure: one for one in summarize(suite, records).differences if one.dataset is None}

    assert (found["nll"].mean, found["nll"].num_pairs) == (-0.5, 2)
    assert (found["calibration_error"].mean, found["calibration_error"].num_pairs) == (-0.2, 1)


def test_an_arm_of_other_budgets_is_compared_with_the_references_own(make_suite: MakeSuite) -> None:
    arms = {"adapted": {"budgets_s": [10]}, "scratch": {"prior": "none", "budgets_s": [10, 30]}}
    suite = make_suite(arms=arms)
    records = {
        run: record_of(run, outcome_of(accuracy=0.4 + run.budget_s / 100 + 0.3 * (run.arm == "adapted")))
        for run in chosen_runs(suite)
    }

    every = [one for one in summarize(suite, records).differences if one.measure == "accuracy"]
    found = [one for one in every if one.dataset is None]

    assert [(one.budget_s, one.reference_budget_s, one.mean) for one in found] == [(10, 10, 0.3), (30, 10, 0.1)]


def test_the_file_of_results_has_every_run_and_what_it_was_measured_on(suite: Suite) -> None:
    runs = chosen_runs(suite, arms=["adapted"])
    records = {run: record_of(run, outcome_of(code=f"c{run.seed}")) for run in runs[:3]}
    records[runs[3]] = record_of(runs[3], None)

    head = headline(suite, "5a", runs, records)
    document = json.loads(results_text(head, {"machine": {"cpus": 2}}, suite, records))

    assert (head["complete"], head["num_runs"], head["num_failed"], head["code"]) == (False, 4, 1, ["c0", "c1"])
    assert document["machine"] == {"cpus": 2}
    assert Suite.model_validate(document["suite"]) == suite
    assert [run["failure"] is None for run in document["runs"]] == [True, True, True, False]
    assert document["runs"][0]["outcome"]["accuracy"] == 0.5
    assert headline(suite, "5a", runs[:3], dict(list(records.items())[:3]))["complete"]


def test_results_without_a_run_are_a_document_too(suite: Suite) -> None:
    assert json.loads(results_text(headline(suite, "5a", [], {}), {}, suite, {}))["runs"] == []
