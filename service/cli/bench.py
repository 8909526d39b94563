"""`archprior bench`: a suite's runs, so many at once on Ray; goes on where it was stopped."""

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import ValidationError
from rich.text import Text

from search_spaces.errors import InvalidOptionError
from service.cli.bench_tables import failure_lines, tables
from service.cli.errors import as_invalid_option
from service.cli.interrupts import interruptible
from service.cli.options import JsonOption
from service.cli.output import one_line, print_json, stdout
from workers.bench.folder import BenchFolder, write_whole
from workers.bench.records import RunRecord
from workers.bench.runs import Run, chosen_runs
from workers.bench.suite import Suite
from workers.training.threads import WAITING

if TYPE_CHECKING:
    from workers.bench.campaign import Told
    from workers.bench.ray_executor import RayExecutor

FAILED: Final = 1
# Of a Ray of our own, before it is imported: on loopback only, with its token.
RAY_SETTINGS: Final = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    **WAITING,
}


def bench(
    suite_file: Annotated[
        Path, typer.Argument(metavar="SUITE", help="JSON: datasets, arms, seeds, budgets; see docs/bench.md.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for runs and results; the same one goes on from there.")
    ],
    only_dataset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of these datasets only; repeatable.", show_default=False)
    ] = None,
    only_arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Of these arms only, and those they wait for; repeatable.", show_default=False
        ),
    ] = None,
    only_seed: Annotated[
        list[int] | None, typer.Option(metavar="SEED", help="Of these seeds only; repeatable.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once; CPUs / threads if absent.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each run.")] = 1,
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster whose nodes see DIR; one of its own if absent.", show_default=False),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run again what has failed.")] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the results here too, once every run of the suite has an outcome.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare ways to a network: each run is one adaptation, and the outcome of each is kept.

    Ends with code 1 where a run has failed; results are written all the same.
    """
    suite, suite_sha256 = read_suite(suite_file)
    runs = chosen_runs(suite, datasets=only_dataset or (), arms=only_arm or (), seeds=only_seed or ())
    num_at_once = workers or max(1, len(os.sched_getaffinity(0)) // threads)
    from workers.bench.campaign import Campaign
    from workers.bench.machine import describe
    from workers.bench.results import headline, results_text
    from workers.bench.stock import check, stock
    from workers.bench.summary import summarize
    from workers.store.open import open_store

    about = {
        **describe(f"archprior {shlex.join(sys.argv[1:])}"),
        "threads": threads,
        "runs_at_once": num_at_once,
    }
    folder = BenchFolder(out)
    with interruptible(), folder.claimed():
        say(f"{suite.name}: bringing {len({run.dataset for run in runs})} datasets into {folder.store_url}")
        store = open_store(folder.store_url, create=True)
        stocked = stock(store, suite, runs, suite_file.absolute().parent)
        check(suite, runs, stocked)
        campaign = Campaign(suite, runs, stocked, folder, threads=threads, retry=retry, tell=tell)
        say(f"{len(campaign.records)} of {len(runs)} runs are there; {num_at_once} at once")

        try:
            if campaign.left():
                with _executor(folder, address, threads, num_at_once) as executor:
                    campaign.carry_out(executor, num_at_once)
        finally:
            head = headline(suite, suite_sha256, runs, campaign.records)
            text = results_text(head, about, suite, campaign.records)
            folder.write_results(text)
        if results is not None:
            write_if_whole(results, text, suite, campaign.records)
    if as_json:
        print_json(head)
    else:
        for part in (*tables(suite, summarize(suite, campaign.records)), Text(f"Results: {folder.results}")):
            stdout().print(part, soft_wrap=True)
    failed = [record for record in campaign.records.values() if record.failure is not None]
    if failed:
        for line in failure_lines(failed):
            say(line)
        raise typer.Exit(FAILED)


def read_suite(path: Path) -> tuple[Suite, str]:
    """Return the suite of a file, and the hash of its bytes.

    Raises:
        InvalidOptionError: There is no such file, or it is no suite.
    """
    if not path.is_file():
        raise InvalidOptionError("no such suite", got=str(path), expected="a JSON file")
    data = path.read_bytes()
    try:
        return Suite.from_stored(data, str(path)), hashlib.sha256(data).hexdigest()
    except ValidationError as error:
        raise as_invalid_option(f"the suite {path} cannot be used", error, spell=str) from error


def write_if_whole(path: Path, text: str, suite: Suite, records: Mapping[Run, RunRecord]) -> None:
    """Write results to a file, unless runs of the suite lack: what is there may be of more of them."""
    wanted = chosen_runs(suite)
    num_there = sum(run in records and records[run].outcome is not None for run in wanted)
    if num_there < len(wanted):
        say(f"{path} is left as it was: {num_there} of the suite's {len(wanted)} runs have an outcome")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def tell(told: "Told") -> None:
    """Say how a run has ended, and how long the rest will take."""
    outcome, failure = told.record.outcome, told.record.failure
    result = f"{outcome.accuracy:.2%}" if outcome else f"failed: {one_line(failure.what) if failure else 'unknown'}"
    minutes, seconds = divmod(round(told.eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    say(f"[{told.num_done}/{told.num_runs}] {told.run}: {result} (ETA {hours}:{minutes:02d}:{seconds:02d})")


def say(what: str) -> None:
    """Tell how far it is."""
    typer.echo(what, err=True)


@contextmanager
def _executor(folder: BenchFolder, address: str | None, threads: int, num_at_once: int) -> Iterator["RayExecutor"]:
    if address is None:
        os.environ.update(RAY_SETTINGS)
    from workers.bench.ray_executor import RayExecutor, joined_ray  # takes seconds: Ray and torch come with it

    with joined_ray(address, num_cpus=threads * num_at_once):
        yield RayExecutor(folder, threads=threads)
