"""The section of `bench-namesakes`: what it is worth to have met classes that name what CIFAR-10 shows."""

from typing import Final

from benchmarks.results_page.markdown import paragraphs, points, words
from benchmarks.results_page.reading import Results
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told
from benchmarks.results_page.suites import ACCURACY, SuiteResults, abouts


def tell(results: Results) -> Told:
    """Return what the file says."""
    found = results.read(SuiteResults)
    gaps = {one.dataset: one.interval for one in found.differences if one.measure == ACCURACY and one.dataset}
    text = words(f"{dataset} {points(gap)}" for dataset, gap in gaps.items())
    worth = Finding(f"points by which the prior that has met them is better: {text}", Reached.SHOWN)
    return Told(
        findings={"worth": worth} if gaps else {},
        body=paragraphs(
            f"Test accuracy in percent, mean ± standard error over {len(found.suite.seeds)} seeds; differences are "
            "paired by dataset and seed of the adaptation. Each prior is one run of meta-training, and the one that "
            "has met these classes has met more classes in all.",
            found.accuracy_table(),
            abouts(found.suite.arms, list(found.suite.arms)),
            found.seconds(),
        ),
        missing=found.missing(),
    )


BENCHMARK: Final = Benchmark(
    name="namesakes",
    title="Having met the classes that name what CIFAR-10 shows",
    about="Two priors of one recipe: one learned without the classes of ImageNet and the emoji that name what CIFAR-10 "
    "shows, as the bundled priors did, one with them.",
    files="namesakes.json",
    command="make bench-namesakes",
    asked={"worth": "a prior with the classes that name CIFAR-10's things beside one without"},
    tell=tell,
)
