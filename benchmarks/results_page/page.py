"""The page of results: what was asked and found, what was not reached and why, a section for each benchmark."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.results_page import (
    adapt,
    anytime,
    few_steps,
    leave_one_out,
    meta_compute,
    meta_training,
    namesakes,
    nas201,
    ranking,
    step,
    tasks,
    trials,
)
from benchmarks.results_page.markdown import paragraphs, table, words
from benchmarks.results_page.reading import Origin, Results, UnreadableResultsError
from benchmarks.results_page.section import Benchmark, Finding, Reached, Told
from search_spaces.errors import lookup

BENCHMARKS: Final = (
    tasks.BENCHMARK,
    anytime.BENCHMARK,
    few_steps.BENCHMARK,
    nas201.BENCHMARK,
    ranking.BENCHMARK,
    trials.BENCHMARK,
    step.SPEED,
    step.RANKING,
    meta_compute.BENCHMARK,
    leave_one_out.BENCHMARK,
    namesakes.BENCHMARK,
    meta_training.BENCHMARK,
    adapt.BENCHMARK,
)
REASONS: Final = Path(__file__).with_name("reasons.json")
RESULTS_LINK: Final = "../benchmarks/results"
INTRODUCTION: Final = """\
# Results

Written by `make results` from the files in [benchmarks/results](../benchmarks/results): every number comes from one of
them. Change nothing here by hand; why something was not reached is told in
[reasons.json](../benchmarks/results_page/reasons.json).

**The data.** The CIFAR-10 and the ImageNet-32 of these measurements are JPEG copies (quality 75): compare numbers with
each other, not with published ones. Emoji, glyphs, MNIST, Fashion-MNIST and digits are lossless.

**The training.** What was measured before 2026-12-01 trained all weights by SGD; since then kernels learn by
[Muon](../benchmarks/priors/experiments.md#muon), and two threads take half the time that they took."""
ASKED: Final = """\
The questions are those that the project set itself before it measured. Reached: `yes` or `no` where a threshold was
set, `in the mean only` where an interval reaches over it, `shown` where numbers were asked for and no threshold."""
NO_REASON: Final = "No reason is on record."
ANSWERED: Final = (Reached.YES, Reached.SHOWN)


@dataclass(frozen=True)
class Page:
    """Markdown, its pictures by name without a suffix, and how many of the questions stand how."""

    text: str
    plots: Mapping[str, str]
    counts: Mapping[Reached, int]


@dataclass(frozen=True)
class File:
    """A file of results, read."""

    name: str
    origin: Origin
    told: Told


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A line of the table of what was asked.

    Attributes:
        benchmark: That was asked.
        key: Of the question in it.
        finding: None: not run.
        so_far: The file is partial.
        where: The file, where there are several.
    """

    benchmark: Benchmark
    key: str
    finding: Finding | None
    so_far: bool = False
    where: str = ""

    @property
    def asked(self) -> str:
        return self.benchmark.asked[self.key]

    @property
    def reached(self) -> Reached:
        return Reached.NOT_RUN if self.finding is None else self.finding.reached

    @property
    def state(self) -> str:
        return f"{self.reached}, so far" if self.finding is not None and self.so_far else self.reached


def write_page(results: Path, reasons: Path = REASONS) -> Page:
    """Return the page that the files of a folder make.

    Args:
        results: Folder of the files.
        reasons: File of reasons, in words: why a benchmark was not run, by its name (`tasks`), and why something was
            missed, by benchmark and question (`tasks.diagonal`).

    Raises:
        UnreadableResultsError: A file lacks what its section needs.
        UnknownNameError: A reason is about something that nobody asked.
    """
    why: dict[str, str] = json.loads(reasons.read_text())
    known = {key: one for one in BENCHMARKS for key in (one.name, *(f"{one.name}.{asked}" for asked in one.asked))}
    for key in why:
        lookup(known, key, kind=f"benchmark or question in {reasons.name}")
    files = {one.name: _read(one, results) for one in BENCHMARKS}
    answers = [answer for one in BENCHMARKS for answer in _answers(one, files[one.name])]
    plots: dict[str, str] = {}
    for file in (file for there in files.values() for file in there):
        plots |= file.told.plots
    text = paragraphs(
        INTRODUCTION,
        "## What was asked, what was found",
        ASKED,
        _overview(answers),
        "## What was not reached, and why",
        _unreached(answers, why),
        *(_section(one, files[one.name]) for one in BENCHMARKS),
    )
    return Page(f"{text}\n", plots, {state: sum(one.reached is state for one in answers) for state in Reached})


def _read(benchmark: Benchmark, folder: Path) -> list[File]:
    files = []
    for path in sorted(folder.glob(benchmark.files)):
        results = Results(path)
        origin = results.read(Origin)
        if origin.benchmark != benchmark.name:
            raise UnreadableResultsError(
                f"{path} is of another benchmark", got=origin.benchmark, expected=benchmark.name
            )
        files.append(File(path.name, origin, benchmark.tell(results)))
    return files


def _answers(benchmark: Benchmark, files: Sequence[File]) -> Iterator[Answer]:
    for key in benchmark.asked:
        if not files:
            yield Answer(benchmark=benchmark, key=key, finding=None)
        for file in files:
            yield Answer(
                benchmark=benchmark,
                key=key,
                finding=file.told.findings.get(key),
                so_far=bool(file.told.missing),
                where=file.name if len(files) > 1 else "",
            )


def _overview(answers: Sequence[Answer]) -> str:
    rows = []
    for one in answers:
        found = "" if one.finding is None else one.finding.text
        rows.append([one.asked, f"{one.where}: {found}" if one.where else found, one.state])
    return table(["asked", "found", "reached"], rows)


def _unreached(answers: Sequence[Answer], why: Mapping[str, str]) -> str:
    lines = []
    for one in answers:
        if one.finding is not None and one.reached not in ANSWERED:
            where = f" ({one.where})" if one.where else ""
            reason = why.get(f"{one.benchmark.name}.{one.key}", NO_REASON)
            lines.append(f"- **{one.asked}**{where}: {one.state}; {one.finding.text}. {reason}")
    for benchmark in BENCHMARKS:
        questions = dict.fromkeys(one.asked for one in answers if one.benchmark is benchmark and one.finding is None)
        if questions:
            reason = why.get(benchmark.name, NO_REASON)
            lines.append(f"- **Not run** (`{benchmark.command}`): {'; '.join(questions)}. {reason}")
    return "\n".join(lines) or "Nothing: all that was asked was run and reached."


def _section(benchmark: Benchmark, files: Sequence[File]) -> str:
    if not files:
        body = f"Not run: `{benchmark.command}` makes `benchmarks/results/{benchmark.files}`."
    else:
        body = paragraphs(*(_file(benchmark, file, several=len(files) > 1) for file in files))
    return paragraphs(f"## {benchmark.title}", benchmark.about, body)


def _file(benchmark: Benchmark, file: File, *, several: bool) -> str:
    lacking = f"**Not complete**: {'; '.join(file.told.missing)}." if file.told.missing else ""
    return paragraphs(f"### {file.name}" if several else "", lacking, file.told.body, _origin(benchmark, file))


def _origin(benchmark: Benchmark, file: File) -> str:
    """Return where the numbers come from, as far as the file says; its command as it was called then."""
    origin, machine = file.origin, file.origin.machine
    parts = [
        f"[{file.name}]({RESULTS_LINK}/{file.name})",
        f"`{benchmark.command}`",
        f"was called then `{origin.command}`" if origin.command else "",
        f"{machine.cpus} CPUs{f' ({machine.processor})' if machine.processor else ''}" if machine.cpus else "",
        f"{machine.threads} threads" if machine.threads else "",
        f"{machine.memory_gb:g} GB" if machine.memory_gb else "",
        f"load {machine.load_at_start:g} at the start" if machine.load_at_start is not None else "",
        words(f"{name} {version}" for name, version in origin.versions.items()) if origin.versions else "",
        f"code {words(hash_[:12] for hash_ in origin.code)}" if origin.code else "",
        origin.at,
        f"GPU: {origin.gpu}" if isinstance(origin.gpu, str) else "",
    ]
    return f"*From {'; '.join(part for part in parts if part)}.*"
