"""The section of `bench-leave-one-out`: what a prior is worth in a domain that it never saw."""

from typing import Final

from benchmarks.results_page.markdown import paragraphs, points, shares, table, words
from benchmarks.results_page.plots import draw_bars
from benchmarks.results_page.reading import Interval, Results, Seen
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told

NAMES: Final = {"all": "saw all domains", "without": "did not see this one", "none": "no prior"}
BySteps = dict[int, Interval]
"""By number of inner steps."""


class Domain(Seen):
    """What was found on tasks of a domain's meta-test classes."""

    num_classes: int
    accuracy: dict[str, BySteps]
    all_minus_without: BySteps
    without_minus_none: BySteps


class Document(Seen):
    """A file of results."""

    complete: bool
    num_steps: int
    num_tasks: int
    domains: dict[str, Domain]
    without_mark: str | None = None


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(Document)
    name = results.name.removesuffix(".json")
    findings = {}
    if found.domains:
        last = {domain: max(seen.without_minus_none) for domain, seen in found.domains.items()}
        text = "against none, points: " + words(
            f"{domain} {points(seen.without_minus_none[last[domain]])}" for domain, seen in found.domains.items()
        )
        findings["unseen"] = Finding(text, Reached.SHOWN)
    rows = [
        [
            domain,
            str(steps),
            *(shares(seen.accuracy[prior][steps]) if prior in seen.accuracy else "" for prior in NAMES),
            points(seen.all_minus_without[steps]),
            points(seen.without_minus_none[steps]),
        ]
        for domain, seen in found.domains.items()
        for steps in sorted(seen.all_minus_without)
    ]
    bars = {
        domain: {
            NAMES.get(prior, prior): by_steps[max(by_steps)].in_percent() for prior, by_steps in seen.accuracy.items()
        }
        for domain, seen in found.domains.items()
    }
    plots = {name: draw_bars(bars, "accuracy after the last inner step, %")} if bars else {}
    marked = f" Classes marked `{found.without_mark}` are left out of all." if found.without_mark else ""
    head = ["domain", "inner steps", *NAMES.values(), "all - without, points", "without - none, points"]
    return Told(
        findings=findings,
        body=paragraphs(
            f"{found.num_steps} steps of learning for each prior, {found.num_tasks} tasks of each domain's meta-test "
            f"classes, the same for all; 95 % intervals are bootstrapped over tasks.{marked}",
            f"![Accuracy by domain and prior](images/results/{name}.svg)" if plots else "",
            table(head, rows) if rows else "",
        ),
        plots=plots,
        missing=() if found.complete else (f"only {words(found.domains)} are judged",),
    )


BENCHMARK: Final = Benchmark(
    name="leave_one_out",
    title="Domains that a prior never saw",
    about="Each domain is left out once; accuracy after 0, 4 and 16 inner steps on its meta-test classes.",
    files="leave_one_out*.json",
    command="make bench-leave-one-out",
    asked={"unseen": "leave-one-domain-out results"},
    tell=tell,
)
