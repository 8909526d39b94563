"""The model card that travels with an exported network (`card.md`); every number in it is one of `metrics.json`."""

from typing import Final

from workers.adapt.report import table_text
from workers.contracts.adaptations import NO_PRIOR
from workers.contracts.artifacts import Metrics

NUM_WEAKEST_SHOWN: Final = 5


def write_card(metrics: Metrics) -> str:
    """Return the card as Markdown: what the network is, what it is for, how good it is, what it learned from."""
    request, interval = metrics.request, metrics.accuracy_interval
    lines = [
        f"# Model card: {table_text(request.name or metrics.adaptation_id)}",
        "",
        f"An image classifier for {metrics.plan['num_classes']} classes, made by ArchPrior for one dataset.",
        "",
        "| what | value |",
        "|---|---|",
        f"| adaptation, attempt | {metrics.adaptation_id}, {metrics.attempt} |",
        f"| architecture | `{table_text(metrics.architecture)}` ({request.search_space}) |",
        f"| parameters | {metrics.cost.params:,} |",
        f"| MACs for one image | {metrics.cost.macs:,} |",
        f"| input | {metrics.resolution} x {metrics.resolution} RGB |",
        f"| prior, search | {metrics.prior}, {request.search} |",
        f"| seed | {metrics.seed} |",
        f"| seconds from staging until the files were compared | {metrics.timings_s['total']:.1f} |",
        "",
        "## Use",
        "",
        "`python predict.py IMAGE_OR_FOLDER...` tells what images show; it needs numpy, pillow (10.1 or newer) and "
        "onnxruntime.",
        "`model.onnx` and `model.pt2` take images as bytes, any number at once; `preprocessing.json` says how they are "
        "made, `labels.json` what the outputs mean.",
        "",
        "It is meant for images like those of its dataset. It knows no class but its own: for an image of anything "
        "else it names one of them all the same.",
        "",
        "## How good it is",
        "",
        f"It labels {metrics.accuracy:.1%} of {metrics.num_test:,} test images correctly (95 % interval "
        f"{interval.low:.1%} to {interval.high:.1%}, Wilson). Test images took no part in search or training"
        f"{_repeats(metrics)}. How it does on images from elsewhere was not measured.",
        "",
        *_calibration(metrics),
        "",
        *_weakest(metrics.per_class_accuracy),
        metrics.verdict,
        *(["", metrics.budget_note] if metrics.budget_note else []),
        "",
        "## What it learned from",
        "",
        f"{metrics.num_train:,} images to train on and {metrics.num_query:,} held out, of the dataset "
        f"with SHA-256 `{metrics.dataset_sha256}`{_learned(metrics)}; {metrics.skipped_images:,} unreadable ones were "
        "left out. Whoever posted it knows its terms: heed them before you pass the network on.",
        "",
        *_prior(metrics),
        "",
        "## Versions",
        "",
        "| library | version |",
        "|---|---|",
        *(f"| {library} | {version} |" for library, version in metrics.versions.items()),
        "",
    ]
    return "\n".join(lines)


def _repeats(metrics: Metrics) -> str:
    if not metrics.repeats_in_test:
        return ""
    return f", but {metrics.repeats_in_test:,} of them are equal, pixel by pixel, to an image trained on"


def _learned(metrics: Metrics) -> str:
    return f", and after the choice {metrics.num_learned:,} of both" if metrics.num_learned else ""


def _calibration(metrics: Metrics) -> list[str]:
    if metrics.calibration_error is None:
        return ["Its probabilities are not calibrated."]
    return [
        "Its probabilities are not calibrated: on the test images that of the class it names was off by "
        f"{metrics.calibration_error:.1%} in the mean (expected calibration error)."
    ]


def _weakest(per_class_accuracy: dict[str, float]) -> list[str]:
    shown = sorted(per_class_accuracy.items(), key=lambda item: item[1])[:NUM_WEAKEST_SHOWN]
    if not shown:
        return []
    return [
        "The classes that it does worst on; all are in `report.md`:",
        "",
        "| class | accuracy |",
        "|---|---|",
        *(f"| {table_text(label)} | {accuracy:.1%} |" for label, accuracy in shown),
        "",
    ]


def _prior(metrics: Metrics) -> list[str]:
    if metrics.prior == NO_PRIOR:
        return ["Its weights began at random: no prior was used."]
    return [
        f"Its weights began at those of the prior `{metrics.prior}`, which learned from:",
        "",
        "| dataset | terms |",
        "|---|---|",
        *(f"| {table_text(name)} | {table_text(terms)} |" for name, terms in metrics.prior_data.items()),
    ]
