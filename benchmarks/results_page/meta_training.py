"""The section of `bench-meta-training`: what each part of the learning is worth."""

from collections.abc import Mapping
from typing import Final

from benchmarks.results_page.markdown import number, paragraphs, percent, points, table, words
from benchmarks.results_page.plots import draw_intervals
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told

# Which fields of a configuration a part is, of those that were to be ablated.
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "choices": ("architectures", "architecture", "arch_lr", "arch_entropy", "inner_arch_lr"),
    "weights (gaussian, delta)": ("family",),
    "KL weights": ("weight_kl", "arch_kl", "inner_weight_kl", "inner_arch_kl"),
    "inner loop": ("num_inner_steps", "joint_steps"),
    "meta-gradients": ("rule",),
}
BySteps = dict[int, Interval]
"""By number of inner steps."""


class Scores(Seen):
    """Of a variant at one place."""

    accuracy: BySteps
    nll: BySteps
    calibration_error: BySteps


class Place(Scores):
    """The same, and less those of the base."""

    minus_base: Scores


class Variant(Seen):
    """What a variant learned and how it was judged."""

    learn: dict[str, object]
    judge: dict[str, object]
    num_steps: int
    cpu_s: float
    at_mode: Place
    at_cell: Place


class Document(Seen):
    """A file of results."""

    complete: bool
    warm_up_cpu_s: float
    cpu_s: float
    num_tasks: int
    variants: dict[str, Variant]


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    name = results.name.removesuffix(".json")
    touched = {
        part: any(set(fields) & {*one.learn, *one.judge} for one in found.variants.values())
        for part, fields in PARTS.items()
    }
    lacking = [part for part, there in touched.items() if not there]
    text = f"{len(found.variants)} variants; ablated: {words(part for part in PARTS if touched[part])}"
    finding = Finding(f"{text}; not: {words(lacking)}", Reached.NO if lacking else Reached.SHOWN)
    others = {variant: _gap(one).in_percent() for variant, one in found.variants.items() if one.learn or one.judge}
    plots = {name: draw_intervals(others, "points of accuracy above the base, at the mode")} if others else {}
    return Told(
        findings={"ablation": finding},
        body=paragraphs(
            f"{found.cpu_s:g} CPU seconds of learning for each variant, after {found.warm_up_cpu_s:g} of a warm-up; "
            f"{found.num_tasks} tasks of each domain's meta-validation classes, the same for all. Scores after the "
            "last inner step at the prior's mode, and accuracy at one cell that is the same for all; differences from "
            "the base are paired, 95 % intervals are bootstrapped over tasks, and do not cover another seed of the "
            "learning. The effect is of the accuracy at each variant's own mode, which may be another, emptier cell "
            "than the base's; whether the weights gained is told by the last column.",
            _table(found),
            f"![Accuracy above the base](images/results/{name}.svg)" if plots else "",
        ),
        plots=plots,
        missing=() if found.complete else (f"only {words(found.variants)} are judged",),
    )


def _gap(variant: Variant) -> Interval:
    """Return accuracy above the base after the last inner step, at the mode."""
    gaps = variant.at_mode.minus_base.accuracy
    return gaps[max(gaps)]


def _table(found: Document) -> str:
    head = ["variant", "changes", "steps", "accuracy", "above the base, points", "effect", "NLL", "calibration error"]
    head += ["at the cell, above the base"]
    rows = []
    for name, one in found.variants.items():
        last = max(one.at_mode.accuracy)
        changes = words(f"{field} {_short(value)}" for field, value in {**one.learn, **one.judge}.items())
        rows.append(
            [
                f"`{name}`",
                changes if one.learn or one.judge else "",
                str(one.num_steps),
                percent(one.at_mode.accuracy[last].mean),
                points(_gap(one)),
                _effect(_gap(one)) if one.learn or one.judge else "",
                number(one.at_mode.nll[last], digits=2),
                number(one.at_mode.calibration_error[last], digits=3),
                points(one.at_cell.minus_base.accuracy[last]),
            ]
        )
    return table(head, rows)


def _effect(gap: Interval) -> str:
    """Return whether an interval is on one side of nothing."""
    if gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
        return "none shown"
    return "better" if gap.low > 0 else "worse"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else f"`{value}`"


BENCHMARK: Final = Benchmark(
    name="meta_training",
    title="What each part of the learning is worth",
    about="Variants of one configuration, equal CPU seconds each, judged on the same tasks of classes that none met; "
    "[experiments.md](../benchmarks/priors/experiments.md) says what they taught.",
    files="meta_training*.json",
    command="make bench-meta-training",
    asked={"ablation": "each part ablated: " + ", ".join(PARTS)},
    tell=tell,
)
