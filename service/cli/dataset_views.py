"""What the commands on datasets print."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.text import Text

from service.cli.output import stdout, table
from service.schemas import DatasetView
from workers.contracts.datasets import DatasetFindings, DatasetReport

MAX_CLASSES: Final = 50
MAX_PAIRS: Final = 5


def show_datasets(views: Sequence[DatasetView]) -> None:
    """Print datasets as a table."""
    columns = ("dataset", "name", "state", "classes", "images", "bytes", "meta-runs", "terms", "created")
    listed = table(*columns, numbers=frozenset({3, 4, 5}))
    for view in views:
        listed.add_row(
            view.id,
            Text(view.name),
            view.state,
            "" if view.report is None else str(len(view.report.classes)),
            "" if view.report is None else f"{view.report.total_images:,}",
            f"{view.num_bytes:,}",
            "may learn from it" if view.meta_use else "may not",
            Text(view.terms),
            view.created_at.isoformat(timespec="seconds"),
        )
    stdout().print(listed)


def describe_dataset(view: DatasetView, server: str) -> None:
    """Print all that is known of a dataset, and what can be done where it is not READY."""
    facts = table("", "")
    facts.show_header = False
    for name, text in _facts(view):
        facts.add_row(name, Text(text))
    stdout().print(facts)
    if view.report is not None:
        _show_classes(view.report, view.findings)
    way_on = _way_on(view, server)
    if way_on:
        stdout().print(way_on, markup=False, soft_wrap=True)


def _facts(view: DatasetView) -> Iterator[tuple[str, str]]:
    yield "dataset", view.id
    yield "name", view.name
    yield "state", view.state
    yield "bytes", f"{view.num_bytes:,}"
    yield "created", view.created_at.isoformat(timespec="seconds")
    yield "meta-runs", "may learn from it" if view.meta_use else "may not learn from it"
    yield "terms", view.terms
    if view.source is not None:
        yield "copied from", view.source
    if view.upload is not None:
        yield "arrived", f"{view.upload.num_arrived:,} of {view.upload.num_parts:,} parts"
        yield "forgotten", view.upload.expires_at.isoformat(timespec="seconds")
    if view.sha256 is not None:
        yield "sha256", view.sha256
    if view.error is not None:
        yield "error", "\n".join((view.error.detail or view.error.title, *view.error.errors))
    if view.report is not None:
        report = view.report
        yield "images", f"{report.total_images:,} in {len(report.classes):,} classes"
        yield "sizes", f"{report.min_size:,} to {report.max_size:,} pixels, median {report.median_size:,}"
        yield "modes", _counts(report.modes.items())
        if report.splits:
            yield "splits", _counts(report.splits.items())
        if report.skipped:
            yield "left out", "\n".join(f"{one.path}: {one.reason}" for one in report.skipped[:MAX_PAIRS])
    yield from _findings(view)


def _findings(view: DatasetView) -> Iterator[tuple[str, str]]:
    if view.findings is None:
        return
    found = view.findings
    if found.num_duplicates:
        yield (
            "duplicates",
            f"{found.num_duplicates:,} images repeat another one, {found.across_classes:,} of them across classes, "
            f"{found.across_splits:,} across splits",
        )
        yield "", "\n".join(f"{second} repeats {first}" for first, second in found.duplicates[:MAX_PAIRS])
    else:
        yield "duplicates", "none"
    yield "near-empty", _counts(found.near_empty.items()) or "no class"
    if found.suggested_split:
        yield "suggested", _counts(found.suggested_split.items())


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def _show_classes(report: DatasetReport, findings: DatasetFindings | None) -> None:
    near_empty = {} if findings is None else findings.near_empty
    classes = table("class", "images", "", numbers=frozenset({1}))
    for name, count in zip(report.classes[:MAX_CLASSES], report.num_images, strict=False):
        classes.add_row(Text(name), f"{count:,}", "near-empty" if name in near_empty else "")
    stdout().print(classes)
    num_more = len(report.classes) - MAX_CLASSES
    if num_more > 0:
        stdout().print(f"and {num_more:,} more: --json lists them all", markup=False)


def _way_on(view: DatasetView, server: str) -> str:
    if view.state == "UPLOADING":
        return f"`archprior datasets add PATH --resume {view.id} --server {server}` sends the parts that are missing."
    if view.state == "CHECKING":
        return "It is being checked: look again in a moment."
    if view.state == "REJECTED" and view.error is not None:
        return view.error.todo
    return ""
