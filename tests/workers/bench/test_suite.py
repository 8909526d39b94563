"""A suite says everything before anything runs: what does not fit together is refused, by name."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from search_spaces.errors import ArchPriorError, InvalidArchitectureError, InvalidOptionError, UnknownNameError
from workers.bench.runs import Run, chosen_runs, source_of
from workers.bench.suite import Suite

MakeSuite = Callable[..., Suite]
OF_ADAPTED = {"search": "given", "architecture": {"architecture_of": "adapted"}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reference": "best"}, "reference names 'best'; known are fresh, adapted, fixed"),
        ({"arms": {"adapted": {"reference": "best"}}}, "arm adapted names 'best'"),
        ({"seeds": [1, 1]}, "seeds name one twice"),
        ({"seeds": []}, "at least 1"),
        ({"budgets_s": [1]}, "greater than or equal to 5"),
        ({"datasets": {}}, "at least 1"),
        ({"datasets": {"A/B": {"path": "x"}}}, "pattern"),
        ({"arms": {"adapted": {"serach": "adapt"}}}, "serach"),
        ({"arms": {"adapted": {"datasets": ["pets"]}}}, "arm adapted names 'pets'"),
        ({"arms": {"adapted": {}, "b": {**OF_ADAPTED, "search": "random"}}}, "goes with search 'given' only"),
        ({"arms": {"adapted": {}, "b": {"architecture": {"architecture_of": "c"}}}}, "arm b names 'c'"),
        (
            {"arms": {"adapted": {}, "b": {"search": "given", "architecture": {"architecture_of": "b"}}}},
            "arm b waits for its own result",
        ),
        (
            {
                "arms": {
                    "adapted": {"search": "given", "architecture": {"architecture_of": "b", "dataset": "colors"}},
                    "b": {"search": "given", "architecture": {"architecture_of": "adapted"}},
                }
            },
            "waits for its own result",
        ),
        (
            {"arms": {"adapted": {"datasets": ["shades"]}, "b": OF_ADAPTED}},
            "arm b on colors waits for a run that adapted has not",
        ),
        (
            {"arms": {"adapted": {"budgets_s": [20, 30]}, "b": OF_ADAPTED}},
            "arm b at 10 s: adapted has several budgets, not this",
        ),
        ({"arms": {"adapted": {}, "b": {"search_space": "enas"}}}, "arm b names 'enas'; known are nas_bench_201"),
        ({"arms": {"adapted": {}, "b": {**OF_ADAPTED, "search_space": "enas"}}}, "arm b names 'enas'"),
        (
            {"arms": {"adapted": {}, "b": {**OF_ADAPTED, "search_space": "darts"}}},
            "arm b of darts waits for adapted, which is of nas_bench_201",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(make_suite: MakeSuite, changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_suite(**changes)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("arm", "error"),
    [
        ({"search": "given", "architecture": "|conv|"}, InvalidArchitectureError),
        ({"search": "given"}, InvalidOptionError),
        ({"architecture": "|conv|"}, InvalidOptionError),
    ],
)
def test_an_architecture_is_read_before_anything_runs(
    make_suite: MakeSuite, arm: dict[str, object], error: type[ArchPriorError]
) -> None:
    with pytest.raises(error):
        make_suite(arms={"adapted": {}, "b": arm})


def test_runs_begin_seed_by_seed_and_after_what_they_wait_for(suite: Suite) -> None:
    keys = [run.key for run in chosen_runs(suite)]

    arms = ["adapted", "fresh", "fixed"]  # the suite names `fresh` first
    assert keys == [f"{d}.{arm}.s{seed}.b10" for seed in (0, 1) for d in ("colors", "shades") for arm in arms]


def test_what_is_wanted_brings_what_it_waits_for(suite: Suite) -> None:
    keys = [run.key for run in chosen_runs(suite, datasets=["shades"], arms=["fresh"], seeds=[1])]

    assert keys == ["shades.adapted.s1.b10", "shades.fresh.s1.b10"]


def test_an_architecture_may_be_that_of_another_dataset(make_suite: MakeSuite) -> None:
    crossed = {"search": "given", "architecture": {"architecture_of": "adapted", "dataset": "colors"}}
    suite = make_suite(arms={"adapted": {}, "colors_cell": {**crossed, "datasets": ["shades"]}})

    runs = chosen_runs(suite, arms=["colors_cell"], seeds=[0])

    assert [run.key for run in runs] == ["colors.adapted.s0.b10", "shades.colors_cell.s0.b10"]
    assert source_of(suite, runs[1]) == runs[0]
    assert source_of(suite, runs[0]) is None


def test_budgets_are_an_arms_own_and_a_source_has_the_same_or_its_only_one(make_suite: MakeSuite) -> None:
    arms = {"adapted": {"budgets_s": [20]}, "same": {**OF_ADAPTED, "budgets_s": [20, 60]}}
    suite = make_suite(arms=arms, seeds=[0], datasets={"colors": {"path": "x"}})

    runs = chosen_runs(suite)

    assert [(run.arm, run.budget_s) for run in runs] == [("adapted", 20), ("same", 20), ("same", 60)]
    assert {source_of(suite, run) for run in runs[1:]} == {Run(dataset="colors", arm="adapted", seed=0, budget_s=20)}


@pytest.mark.parametrize("wanted", [{"datasets": ["pets"]}, {"arms": ["best"]}, {"seeds": [7]}])
def test_what_the_suite_has_not_is_told_with_what_it_has(suite: Suite, wanted: dict[str, list[object]]) -> None:
    with pytest.raises(UnknownNameError, match=r"one of (colors, shades|adapted, fixed, fresh|0, 1)"):
        chosen_runs(suite, **wanted)


def test_budgets_that_differ_in_any_digit_have_files_of_their_own(make_suite: MakeSuite) -> None:
    suite = make_suite(budgets_s=[12345.67, 12345.68, 12345.0], seeds=[0], datasets={"colors": {"path": "x"}})

    runs = chosen_runs(suite, arms=["adapted"])

    assert [run.key.partition(".b")[2] for run in runs] == ["12345.67", "12345.68", "12345"]
    assert len({str(run) for run in runs}) == 3


def test_a_selection_without_any_run_is_refused(make_suite: MakeSuite) -> None:
    suite = make_suite(arms={"adapted": {}, "b": {"datasets": ["colors"]}})

    with pytest.raises(InvalidOptionError, match="arms b; datasets shades"):
        chosen_runs(suite, arms=["b"], datasets=["shades"])
