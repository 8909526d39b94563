"""What a section of the page is: what was asked of a benchmark, and what a file of its results answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.results_page.reading import Interval, Results


class Reached(StrEnum):
    """How a finding stands to what was asked."""

    YES = "yes"
    MEAN_ONLY = "in the mean only"
    NO = "no"
    SHOWN = "shown"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Finding:
    """An answer, in short words; `SHOWN` where numbers were asked for and no threshold."""

    text: str
    reached: Reached


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a file says.

    Attributes:
        findings: By what was asked; what is absent was not run.
        body: Tables and words, in Markdown; begins with no heading.
        plots: SVG documents by name, without a suffix; the names begin with that of the file.
        missing: What a partial file lacks, in words; empty: it is whole.
    """

    findings: Mapping[str, Finding]
    body: str
    plots: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A section.

    Attributes:
        name: That its files bear in `benchmark`.
        title: Of the section.
        about: What is measured, in a sentence or two.
        files: Pattern of its files' names.
        command: That makes them.
        asked: What was asked of it, by a short key.
        tell: Reads one file.
    """

    name: str
    title: str
    about: str
    files: str
    command: str
    asked: Mapping[str, str]
    tell: Callable[[Results], Told]


def beyond(interval: Interval, threshold: float) -> Reached:
    """Return whether a difference is above a threshold: with its whole interval, in the mean only, or not."""
    if interval.mean <= threshold:
        return Reached.NO
    return Reached.YES if interval.low is not None and interval.low > threshold else Reached.MEAN_ONLY
