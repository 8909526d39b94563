"""The model card says nothing that `metrics.json` does not."""

import re
from collections.abc import Iterator

import pytest

from workers.adapt.card import NUM_WEAKEST_SHOWN, write_card
from workers.adapt.report import write_report
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.artifacts import CostReport, Interval, Metrics

# Of the text itself: the kind of interval, the oldest Pillow.
CONSTANTS = {"95", "10.1"}


def metrics_of(**changes: object) -> Metrics:
    values = {
        "adaptation_id": "ad-77aa",
        "attempt": 2,
        "request": AdaptationRequest(name="pets"),
        "architecture": "|nor_conv_3x3~0|",
        "prior": "nas_bench_201-v4",
        "accuracy": 0.8125,
        "accuracy_interval": Interval(low=0.711, high=0.887),
        "nll": 0.6931,
        "calibration_error": 0.0417,
        "per_class_accuracy": {f"kind {letter}": 0.51 + position / 30 for position, letter in enumerate("hgfedcba")},
        "num_train": 1234,
        "num_query": 321,
        "num_test": 2160,
        "resolution": 24,
        "cost": CostReport(params=170_522, macs=5_485_184),
        "candidates": (),
        "searching_helped": None,
        "verdict": "Searching brought nothing here.",
        "timings_s": {"staging": 1.5, "total": 58.75},
        "series": {},
        "max_reload_difference": {},
        "skipped_images": 6,
        "dataset_sha256": "ab" * 32,
        "seed": 19,
        "plan": {"num_classes": 8},
        "versions": {"torch": "2.14.1", "numpy": "2.4.4"},
        "prior_data": {"imagenet | 32": "ImageNet: non-commercial research"},
    }
    return Metrics.model_validate({**values, **changes})


def test_a_report_and_a_card_say_how_many_images_were_learned_from_after_the_choice() -> None:
    assert "| images trained on after the choice | 1475 |" in write_report(metrics_of(num_learned=1475), "")
    assert "and after the choice 1,475 of both" in write_card(metrics_of(num_learned=1475))
    assert "after the choice" not in write_report(metrics_of(), "") + write_card(metrics_of())


def test_a_report_and_a_card_say_what_test_images_repeat() -> None:
    metrics = metrics_of(repeats_left_out=41, repeats_in_test=52)
    assert "| test images equal to one trained on: left out / still in | 41 / 52 |" in write_report(metrics, "")
    assert "but 52 of them are equal, pixel by pixel, to an image trained on" in write_card(metrics)
    assert "pixel by pixel" not in write_card(metrics_of(repeats_left_out=41))


def leaves(value: object) -> Iterator[object]:
    match value:
        case dict():
            for key, item in value.items():
                yield key
                yield from leaves(item)
        case list() | tuple():
            for item in value:
                yield from leaves(item)
        case _:
            yield value


def written(value: object) -> set[str]:
    """How a number of the metrics may be written; of a text, its numbers."""
    match value:
        case bool() | None:
            return set()
        case int():
            return {str(value), f"{value:,}"}
        case float():
            return {f"{100 * value:.1f}", f"{value:.1f}"}
        case _:
            return set(re.findall(r"\d[\d.,]*\d|\d", str(value)))


@pytest.mark.parametrize("prior", ["nas_bench_201-v4", "none"])
def test_every_number_of_the_card_is_one_of_the_metrics(prior: str) -> None:
    metrics = metrics_of(prior=prior, budget_note="Training saw 40% of the images once.")
    card = write_card(metrics)

    known = set().union(*(written(leaf) for leaf in leaves(metrics.model_dump())))
    names_of_files = re.sub(r"`[a-z_]+\.(onnx|pt2|py|json|md)`", "", card)
    assert set(re.findall(r"\d[\d.,]*\d|\d", names_of_files)) <= known | CONSTANTS
    for number in (
        "81.2%",
        "2,160",
        "71.1%",
        "88.7%",
        "170,522",
        "5,485,184",
        "1,234",
        "321",
        "24 x 24",
        "58.8",
        "4.2%",
    ):
        assert number in card


def test_what_an_older_attempt_did_not_measure_is_left_out() -> None:
    metrics = metrics_of(nll=None, calibration_error=None)

    assert "Its probabilities are not calibrated.\n" in write_card(metrics)
    assert "log-likelihood" not in write_report(metrics, "")
    assert "| negative log-likelihood of a test image's label | 0.6931 nats |" in write_report(metrics_of(), "")
    assert "| expected calibration error (15 bins) | 4.2% |" in write_report(metrics_of(), "")


def test_terms_of_what_the_prior_learned_from_are_told() -> None:
    card = write_card(metrics_of())

    assert "| imagenet \\| 32 | ImageNet: non-commercial research |" in card
    assert "began at random" in write_card(metrics_of(prior="none", prior_data={}))


def test_the_weakest_classes_are_named_the_worst_first() -> None:
    rows = [line for line in write_card(metrics_of()).splitlines() if line.startswith("| kind")]

    assert rows[0] == "| kind h | 51.0% |"
    assert [row.split()[2] for row in rows] == list("hgfedcba")[:NUM_WEAKEST_SHOWN]


def test_a_name_and_an_architecture_break_neither_heading_nor_table() -> None:
    metrics = metrics_of(request=AdaptationRequest(name="pets\r\n# Not |a| heading\u2028# nor this"))

    for text in (write_card(metrics), write_report(metrics, "")):
        assert "pets # Not \\|a\\| heading # nor this" in text.splitlines()[0]
        assert "| architecture | `\\|nor_conv_3x3~0\\|`" in text
    given = metrics_of(plan={"num_classes": 8, "architecture": "|nor_conv_3x3~0|"})
    assert "| plan: architecture | \\|nor_conv_3x3~0\\| |" in write_report(given, "")
