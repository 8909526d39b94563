"""The page of results, made from small made-up files, and the one in docs/."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.machine import RESULTS, ROOT
from benchmarks.results_page.__main__ import PAGE, PLOTS, main
from benchmarks.results_page.page import BENCHMARKS, Page, write_page
from benchmarks.results_page.reading import UnreadableResultsError
from benchmarks.results_page.section import Reached
from search_spaces.errors import UnknownNameError
from tests.benchmarks import made_up_results as made_up
from workers.bench.runs import Run

PICTURE = re.compile(r"!\[[^\]]*\]\(images/results/(.+?)\.svg\)")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def page_of(results: Path, **reasons: str) -> Page:
    file = results.parent / "reasons.json"
    file.write_text(json.dumps({key.replace("__", "."): reason for key, reason in reasons.items()}))
    page = write_page(results, file)
    assert sorted(PICTURE.findall(page.text)) == sorted(page.plots)
    return page


def row_of(page: Page, asked: str) -> list[list[str]]:
    """Return found and reached of what was asked, a row for each file."""
    lines = [line for line in page.text.splitlines() if line.startswith("|") and asked in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")][1:] for line in lines]


def by_arm(levels: dict[str, float], *, at_home: float = 0.0) -> made_up.Accuracy:
    """Accuracies by arm; seeds differ by far more than arms, and the diagonal is better by `at_home`."""

    def accuracy(run: Run) -> float:
        gain = at_home if run.arm == "adapted_fresh" else 0.0
        return round(levels.get(run.arm, 0.3) + 0.1 * run.seed + gain, 6)

    return accuracy


def test_without_any_file_every_section_says_how_to_run_it(results: Path) -> None:
    page = page_of(results)

    assert page.counts[Reached.NOT_RUN] == sum(len(one.asked) for one in BENCHMARKS)
    assert all(f"Not run: `{one.command}` makes" in page.text for one in BENCHMARKS)
    assert not page.plots
    assert "JPEG copies" in page.text


def test_tasks_that_reach_all_say_so(results: Path) -> None:
    made_up.put_suite(results, made_up.tasks_suite(), by_arm({"adapted": 0.5}, at_home=0.2))

    page = page_of(results)

    assert [row_of(page, one.asked[key])[0][1] for one in BENCHMARKS[:1] for key in one.asked] == [
        "yes", "yes", "yes", "shown",
    ]  # fmt: skip
    assert row_of(page, "at least as good")[0][0].startswith("in the mean against 4 of 4 arms")
    better = "it is better by 20.0 (20.0 to 20.0) points over 6 datasets and seeds; in 0 of 6 pairs"
    assert row_of(page, "best on A")[0][0].startswith(better)
    assert row_of(page, "do not differ")[0][0].startswith("they do on a, b")
    assert "| a | **60.0** | 40.0 |" in page.text  # adapted for a: at home, and on b
    assert "Not complete" not in page.text
    assert "CPU seconds of a run" in page.text


def test_architectures_that_do_not_differ_are_named(results: Path) -> None:
    made_up.put_suite(results, made_up.tasks_suite(), by_arm({"adapted": 0.5}))

    assert row_of(page_of(results), "do not differ")[0][0].startswith("they do on none; not on a, b")


def test_arms_that_train_one_architecture_do_not_differ_whatever_they_reach(results: Path) -> None:
    one = made_up.CELLS["a"]
    made_up.put_suite(results, made_up.tasks_suite(), by_arm({"adapted": 0.5}, at_home=0.2), architecture=one)

    page = page_of(results)

    assert row_of(page, "do not differ")[0][0].startswith("they do on none; not on a, b")
    assert "in 6 of 6 pairs" in row_of(page, "best on A")[0][0]


def test_a_missed_threshold_is_told_with_its_reason(results: Path) -> None:
    made_up.put_suite(results, made_up.tasks_suite(), by_arm({"adapted": 0.3, "random": 0.31, "prior_mode": 0.2}))

    page = page_of(results, tasks__better="Thirty seconds are too short.")

    assert row_of(page, "at least as good")[0][1] == "no"
    assert row_of(page, "better than random")[0][1] == "no"
    told = [line for line in page.text.splitlines() if line.startswith("- **adapted + inherited is")]
    assert [line.split(". ", 1)[1] for line in told] == ["No reason is on record.", "Thirty seconds are too short."]


def test_what_is_worse_by_less_than_the_margin_is_as_good(results: Path) -> None:
    made_up.put_suite(results, made_up.tasks_suite(), by_arm({"adapted": 0.5, "random": 0.504}))

    page = page_of(results)

    assert row_of(page, "at least as good")[0][1] == "yes"
    assert row_of(page, "better than random")[0][1] == "no"


def test_an_interval_that_reaches_below_the_margin_counts_in_the_mean_only(results: Path) -> None:
    def accuracy(run: Run) -> float:
        return 0.5 + (0.1 * (run.seed - 1) if run.arm == "adapted" else 0.0)

    made_up.put_suite(results, made_up.tasks_suite(), accuracy)

    assert row_of(page_of(results), "at least as good")[0][1] == "in the mean only"


def test_partial_tasks_say_what_they_lack(results: Path) -> None:
    def accuracy(run: Run) -> float | None:
        return None if run.arm == "random_fresh" or run.seed == 2 else 0.5

    made_up.put_suite(results, made_up.tasks_suite(), accuracy)
    page = page_of(results)

    assert "`random_fresh` has 0 of 6 runs" in page.text
    assert "`adapted` has 4 of 6 runs" in page.text
    assert row_of(page, "at least as good")[0][1] == "yes, so far"


def test_runs_that_share_an_outcome_are_counted(results: Path) -> None:
    made_up.put_suite(results, made_up.tasks_suite(), lambda _: 0.5, sharing="adapted_fresh")

    assert "6 of the 36 runs have the outcome of one that was asked for the same." in page_of(results).text


def test_the_crossing_is_the_first_multiple_that_is_as_good(results: Path) -> None:
    fresh = {"prior": "none", "budgets_s": [10, 30, 100]}
    arms = {"adapted": {}, "scratch": {**fresh, "search": "supernet"}, "published": fresh}
    scratch = {"a": {10: 0.3, 30: 0.6, 100: 0.7}, "b": {10: 0.2, 30: 0.3, 100: 0.4}}

    def accuracy(run: Run) -> float:
        searched = scratch[run.dataset][int(run.budget_s)]
        return {"adapted": 0.5, "scratch": searched, "published": searched + 0.15}[run.arm]

    made_up.put_suite(results, made_up.suite_of("anytime", arms), accuracy)

    page = page_of(results)
    assert row_of(page, "from scratch needs") == [["a: 10 s 3x; b: 10 s > 10x", "shown"]]
    assert row_of(page, "published architecture needs") == [["a: 10 s 3x; b: 10 s 10x", "shown"]]


def test_seconds_that_small_data_left_over_count_for_no_multiple(results: Path) -> None:
    arms = {"adapted": {}, "scratch": {"prior": "none", "search": "supernet", "budgets_s": [10, 100]}}

    def accuracy(run: Run) -> float:
        return 0.7 if run.budget_s == 100 else 0.5 if run.arm == "adapted" else 0.3

    made_up.put_suite(results, made_up.suite_of("anytime", arms), accuracy, most_s=20.0)

    page = page_of(results)
    assert row_of(page, "from scratch needs") == [["a: 10 s 2x; b: 10 s 2x", "shown"]]
    assert "Runs that ended early, medians: a, `scratch` of 100 s: 20 s; b, `scratch` of 100 s: 20 s." in page.text


def test_having_met_namesakes_is_told_by_dataset(results: Path) -> None:
    arms = {"met": {}, "unmet": {"prior": "none"}}
    gains = {"a": 0.1, "b": 0.0}
    suite = made_up.suite_of("namesakes", arms, reference="met")
    made_up.put_suite(results, suite, lambda run: 0.5 + (gains[run.dataset] if run.arm == "met" else 0.0))

    text = "points by which the prior that has met them is better: a 10.0 (10.0 to 10.0), b 0.0 (0.0 to 0.0)"
    assert row_of(page_of(results), "name CIFAR-10's things") == [[text, "shown"]]


@pytest.mark.parametrize(("last", "took"), [(0.5, "at most 100"), (0.35, "more than 100")])
def test_ten_steps_are_held_against_what_fresh_weights_take(results: Path, last: float, took: str) -> None:
    made_up.put_few_steps(results, fresh={0: 0.1, 10: 0.2, 100: last})

    page = page_of(results)

    assert row_of(page, "10-step curve") == [[f"digits: 40.0 % after 10, for which fresh weights take {took}", "shown"]]
    assert "few_steps_own-v1" in page.plots


def test_part_of_the_datasets_is_said_to_be_a_part(results: Path) -> None:
    made_up.put_few_steps(results, fresh={0: 0.1, 100: 0.2}, complete=False)

    assert "only digits are judged" in page_of(results).text


@pytest.mark.parametrize(
    ("top", "regret", "reached"),
    [(0.8, 0.4, ["yes", "yes", "yes", "yes"]), (4.0, 1.5, ["yes", "no", "yes", "no"]), (9.0, 3.0, ["no"] * 4)],
)
def test_chosen_cells_are_held_against_their_thresholds(
    results: Path, top: float, regret: float, reached: list[str]
) -> None:
    made_up.put_nas201(results, ours_top=top, ours_regret=regret, caps=["10%", "25%", "50%", "100%"])

    page = page_of(results)

    asked = ("without a cap", "the aim", "under caps", "best constants")
    assert [row_of(page, words)[0][1] for words in asked] == reached


def test_chosen_cells_of_fewer_caps_and_seeds_are_partial(results: Path) -> None:
    made_up.put_nas201(results, ours_top=0.8, ours_regret=0.4, caps=["25%"], seeds=2)

    page = page_of(results)

    assert row_of(page, "without a cap")[0][1] == "not run"
    assert row_of(page, "under caps")[0][1] == "yes, so far"
    assert "the cap of 10%; the cap of 50%; the cap of 100%; 2 of 5 seeds" in page.text


def test_chosen_cells_without_a_rival_that_was_asked_for_are_partial(results: Path) -> None:
    caps = ["10%", "25%", "50%", "100%"]
    made_up.put_nas201(results, ours_top=0.8, ours_regret=0.4, caps=caps, without=["naswot", "most_params"])

    page = page_of(results)

    assert row_of(page, "under caps")[0][1] == "yes, so far"
    assert "`most_params` at 10%; a zero-cost score at 10%; `most_params` at 25%" in page.text
    assert "60 seconds of CPU over the number of threads" in page.text
    assert "The longest runs took 61 s (`ours`)" in page.text


def test_parts_of_what_trials_teach_that_are_shown_to_matter_are_named(results: Path) -> None:
    made_up.put_trials(results, look=0.1)

    page = page_of(results)

    text, reached = row_of(page, "reading the dataset, and the other parts")[0]
    assert reached == "shown"
    assert text.endswith("chooses reaches 60.0 %, tau 0.40; less accurate for sure: without look, without everything")
    assert "| without look | 50.0 % | -10.0 (-10.0 to -10.0) | 0.600 |" in page.text


def test_each_prior_that_was_ranked_by_has_its_row(results: Path) -> None:
    made_up.put_ranking(results, "good", ranks=0.6, params=0.3)
    made_up.put_ranking(results, "poor", ranks=0.2, params=0.3, architectures=20)

    good, poor = row_of(page_of(results), "about 100 cells")

    assert good[0].startswith("ranking_good.json: `good`, `ranks`: tau 0.65, above counting by 0.30")
    assert (good[1], poor[1]) == ("yes", "no, so far")


@pytest.mark.parametrize(("product", "reached"), [(20.0, "yes"), (19.0, "no")])
def test_a_step_is_held_against_the_classic_one(results: Path, product: float, reached: str) -> None:
    made_up.put_step(results, product=product)
    made_up.put_step_ranking(results)

    page = page_of(results)

    assert row_of(page, "20 times")[0][1] == reached
    assert row_of(page, "4 times as fast")[0][1] == "yes"
    assert row_of(page, "time to equal") == [
        ["tau 0.40: classic 20 s, ours 10 s, 2 times faster by mean curves; seed by seed 2", "shown"]
    ]


def test_domains_left_out_are_compared_after_the_last_step(results: Path) -> None:
    made_up.put_leave_one_out(results, complete=False)
    made_up.put_leave_one_out(results, mark="cifar10")

    page = page_of(results)
    whole, without = row_of(page, "leave-one-domain-out")

    assert whole == ["leave_one_out.json: against none, points: emoji 20.0 (20.0 to 20.0)", "shown, so far"]
    assert without[1] == "shown"
    assert "only emoji are judged" in page.text
    assert "Classes marked `cifar10` are left out of all." in page.text


@pytest.mark.parametrize(("gain", "told"), [(0.02, "it still helped"), (0.0, "no help is shown any more")])
def test_the_curve_against_meta_compute_says_whether_the_last_steps_helped(
    results: Path, gain: float, told: str
) -> None:
    made_up.put_meta_compute(results, last_gain=gain)

    page = page_of(results)

    ends = f"{100 * gain:.1f}"
    text = f"the last lengthening, 2 times the steps, brought {ends} ({ends} to {ends}) points: {told}"
    assert row_of(page, "quality against meta-compute") == [[text, "shown"]]
    assert "meta_compute_own-v1" in page.plots


def test_a_partial_curve_says_nothing_of_its_end(results: Path) -> None:
    made_up.put_meta_compute(results, last_gain=0.1, complete=False)

    page = page_of(results)

    assert row_of(page, "quality against meta-compute") == [["", "not run"]]
    assert "only 10, 20, 40 steps" in page.text


def test_an_ablation_tells_effects_and_the_parts_that_it_lacks(results: Path) -> None:
    made_up.put_meta_training(results, {"family": "gaussian"}, {"rule": "kl", "weight_kl": 4.0})

    page = page_of(results)
    found, reached = row_of(page, "each part ablated")[0]

    assert reached == "no"
    assert found.endswith("not: choices, inner loop")
    base, gaussian = (row_of(page, f"| `{name}`")[0] for name in ("base", "variant_1"))
    assert (base[4], gaussian[3], gaussian[4]) == ("", "10.0 (10.0 to 10.0)", "better")
    assert "weight_kl 4" in page.text


def test_a_minute_is_told_with_its_seeds(results: Path) -> None:
    made_up.put_adapt(results, seeds=3)

    page = page_of(results)

    assert row_of(page, "a minute with the prior")[0][1] == "yes, so far"
    assert "3 of 5 seeds" in page.text


def test_a_section_names_command_machine_versions_and_date(results: Path) -> None:
    made_up.put_step(results, product=20.0)
    document = json.loads((results / "step.json").read_text())

    told = next(line for line in page_of(results).text.splitlines() if line.startswith("*From [step.json]"))

    for part in (document["command"], document["at"], f"torch {document['versions']['torch']}", "GPU: not run"):
        assert part in told
    assert f"{document['machine']['cpus']} CPUs" in told


def test_a_file_that_lacks_a_key_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.put_step(results, product=20.0)
    document = json.loads((results / "step.json").read_text())
    del document["ways"]["classic"]["images_per_s"]
    (results / "step.json").write_text(json.dumps(document))

    assert main(["--results", str(results), "--docs", str(results.parent / "docs")]) == 1

    told = capsys.readouterr().err
    assert "step.json" in told
    assert "ways.classic.images_per_s" in told
    assert not (results.parent / "docs").exists()


@pytest.mark.parametrize(("text", "told"), [("{", "is no JSON"), ('{"benchmark": "tasks"}', "of another benchmark")])
def test_a_file_that_is_something_else_is_refused(results: Path, text: str, told: str) -> None:
    (results / "adapt.json").write_text(text)

    with pytest.raises(UnreadableResultsError, match=told):
        page_of(results)


def test_a_reason_for_what_nobody_asked_is_refused(results: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"tasks\.speed"):
        page_of(results, tasks__speed="It is slow.")


def test_a_second_run_changes_no_byte_and_old_pictures_go(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.put_adapt(results)
    made_up.put_step(results, product=20.0)
    made_up.put_nas201(results, ours_top=0.8, ours_regret=0.4, caps=["25%"])
    docs = results.parent / "docs"
    command = ["--results", str(results), "--docs", str(docs)]

    assert main(command) == 0
    first = {path.name: path.read_bytes() for path in docs.rglob("*.*")}
    (docs / PLOTS / "gone.svg").write_text("<svg/>")
    assert main(command) == 0

    assert {path.name: path.read_bytes() for path in docs.rglob("*.*")} == first
    assert set(first) == {PAGE, "adapt.svg", "step.svg", "nas201.svg"}
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["reached"]["yes"] == 5


def test_the_page_is_the_committed_one() -> None:
    page = write_page(RESULTS)

    assert page.text == (ROOT / "docs" / PAGE).read_text(), "Results have changed. Run: make results"
    assert {path.stem for path in (ROOT / "docs" / PLOTS).glob("*")} == set(page.plots)
