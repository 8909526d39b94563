"""The one file of results: what was asked, what it was measured on, every run, and what they show. Free of torch."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from workers.bench.records import RunRecord
from workers.bench.runs import Run
from workers.bench.suite import Suite
from workers.bench.summary import Summary, summarize

FORMAT_VERSION: Final = 1


def headline(
    suite: Suite, suite_sha256: str, runs: Sequence[Run], records: Mapping[Run, RunRecord]
) -> dict[str, object]:
    """Return the results without the runs: what a benchmark ends with.

    Args:
        suite: Of the runs.
        suite_sha256: Of the suite's file.
        runs: That were wanted.
        records: Of those that have ended.
    """
    summary = summarize(suite, records)
    outcomes = [record.outcome for record in records.values() if record.outcome is not None]
    return {
        "benchmark": suite.name,
        "format_version": FORMAT_VERSION,
        "complete": len(outcomes) == len(runs),
        "num_runs": len(runs),
        "num_failed": len(records) - len(outcomes),
        "suite_sha256": suite_sha256,
        "code": sorted({outcome.code for outcome in outcomes}),
        "device": "cpu",
        **_as_document(summary),
    }


def results_text(
    headline: Mapping[str, object], about: Mapping[str, object], suite: Suite, records: Mapping[Run, RunRecord]
) -> str:
    """Return the file of results; a run is a line.

    Args:
        headline: As made by `headline`.
        about: Machine, versions, command.
        suite: That was run.
        records: Of the runs that have ended.
    """
    head = json.dumps({**headline, **about, "suite": suite.model_dump(mode="json")}, indent=1)
    runs = ",\n".join(f"  {record.model_dump_json(exclude={'schema_version'})}" for record in records.values())
    body = head.removesuffix("\n}")
    return f'{body},\n "runs": [\n{runs}\n ]\n}}\n'


def _as_document(summary: Summary) -> dict[str, object]:
    return dict(summary.model_dump(mode="json"))
