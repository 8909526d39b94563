"""How good the cells are that a minute chooses, by what NAS-Bench-201 knows of every cell, under caps on MACs.

Each arm gets the same training images of CIFAR-10, the same seconds and threads, a seed and a cap, and answers with a
cell. Then the table says where that cell stands among all within the cap. The table is opened once all arms have
decided; each look into it is logged, in a file beside the results.

| arm | chooses |
|---|---|
| ours | what an adaptation would train: the prior contracts, candidates are scored, the few best raced |
| constant_by_ours | the same, but for ten classes of ImageNet-32 that no prior met |
| naswot, synflow | the best of random cells by a score of untrained networks |
| random_best_of_n | the best of about eight random cells, each trained for a moment |
| most_params | by counting, of MACs too: they agree; ties are judged by their mean |
| constant_by_table_of_... | an oracle: the best within the cap by the table's column of another dataset |

Goes on where it was stopped, run by run; code of an arm that changed makes its runs anew.

usage: make bench-nas201, or python -m benchmarks.nas_bench_201 [--seconds S] [--seeds N] [--caps PERCENT ...]
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final, get_args

from benchmarks.machine import RESULTS, ROOT, describe, end_with, put, say
from benchmarks.nas_bench_201.arms import ARMS, ELSEWHERE, OURS
from benchmarks.nas_bench_201.cells import NO_CAP, Cap, cap_of
from benchmarks.nas_bench_201.images import write_task
from benchmarks.nas_bench_201.job import Clock, Decision
from benchmarks.nas_bench_201.judge import Judge, Standing, Summary, compare, summarize
from benchmarks.nas_bench_201.runs import Run, carry_out, plan_runs
from benchmarks.nas_bench_201.table import LookupLog, Table, check_column, other_datasets, read_columns
from search_spaces.errors import InvalidOptionError, lookup
from workers.contracts.adaptations import NO_PRIOR
from workers.priors.registry import CARD, bundled_default, bundled_folder, parse_card
from workers.tasks.class_split import ClassSplit

DATA: Final = Path(os.environ.get("ARCHPRIOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
ELSEWHERE_DOMAIN: Final = ROOT / "build" / "domains" / "imagenet32"
NUM_ELSEWHERE: Final = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, judge, write the results, and end with one line of JSON.

    Args:
        arguments: Of the command line; None: those of this process.
    """
    return end_with(partial(run, parse(arguments)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=DATA / "nasbench201_e12_val.csv.gz", help="CSV, gzipped or not")
    parser.add_argument("--column", default="e12_cifar10-val", help="of the table, that counts")
    parser.add_argument("--epochs", type=int, default=12, help="that the table's cells were trained for")
    parser.add_argument("--images", type=Path, default=DATA / "cifar10_train.npz", help="packed, to choose by")
    parser.add_argument("--elsewhere", type=Path, default=ELSEWHERE_DOMAIN, help="a domain that `make domains` wrote")
    parser.add_argument("--prior", help="folder of a prior, or 'none'; the bundled one if absent")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--caps", nargs="+", type=float, default=[10, 25, 50, 100], metavar="PERCENT")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=get_args(Clock), default="wall", help="cpu: CPU seconds over threads")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-nas201", help="for what it resumes")
    parser.add_argument("--out", type=Path, default=RESULTS / "nas201.json", help="file of results")
    parser.add_argument("--lookups", type=Path, help="log of look-ups; beside the results if absent")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, object]:
    """Return the results, which are in the file then.

    Raises:
        ArchPriorError: Something that it needs is not there, or a run failed.
    """
    for name in options.arms:
        lookup(ARMS, name, kind="arm")
    if min(options.seeds, options.threads, options.epochs) < 1 or options.seconds <= 0:
        raise InvalidOptionError("--seeds, --threads, --epochs, --seconds", expected="at least one; more than no time")
    columns = read_columns(options.table)  # of the header alone: accuracies wait for all decisions
    check_column(options.table, columns, options.column)
    caps = [cap_of(percent) for percent in sorted(set(options.caps))]
    prior = prior_folder(options.prior)
    machine, started_s = describe(), time.monotonic()
    runs = plan_runs(
        options.arms,
        caps,
        options.seeds,
        images=images_by_arm(options),
        prior=prior,
        seconds=options.seconds,
        threads=options.threads,
        clock=options.clock,
        epochs=options.epochs,
        work=options.work.absolute(),
    )
    decided: list[tuple[Run, Decision]] = []
    for number, (one, decision) in enumerate(carry_out(runs), start=1):
        decided.append((one, decision))
        cells = ", ".join(decision.choice.cells[:3]) + (", ..." if len(decision.choice.cells) > 3 else "")
        say(f"{number} of {len(runs)}: {one.name}: {cells}; {decision.used_s} s; {decision.choice.note}")
    lookups = options.lookups or options.out.with_name(f"{options.out.stem}_lookups.jsonl")
    table = Table(options.table, LookupLog(lookups))
    judge = Judge(table, options.column, after=f"{len(decided)} decisions in {options.work.name}/decisions")
    standings = [judge.stand(one, decision) for one, decision in decided]
    oracles = other_datasets(columns, options.column)
    standings += [judge.oracle(dataset, column, cap) for cap in caps for dataset, column in oracles.items()]
    by_cap = {cap.name: summarize([one for one in standings if one.cap == cap.name]) for cap in caps}
    capped = [standing for standing in standings if standing.cap != NO_CAP]
    results: dict[str, object] = {
        "benchmark": "nas201",
        "column": options.column,
        "epochs": options.epochs,
        "seconds": options.seconds,
        "threads": options.threads,
        "clock": options.clock,
        "seeds": options.seeds,
        "used_s": {arm: most_s(decided, arm) for arm in options.arms},
        "prior": NO_PRIOR if prior is None else parse_card((prior / CARD).read_bytes(), str(prior), any_id=True).id,
        "caps": {cap.name: of_cap(judge, cap, by_cap[cap.name], standings) for cap in caps},
        "ours_under_caps": compare(capped, OURS),
        "images": f"{options.images.name}, training images only: JPEG copies",
        "gpu": "not run",
    }
    raw = {
        "table": {"name": options.table.name, "sha256": table.sha256, "num_cells": len(table.cells)},
        "standings": [asdict(standing) for standing in standings],
        "decisions": [
            {"arm": one.job.arm, "cap": one.cap.name, "seed": one.job.seed, **decision.model_dump(mode="json")}
            for one, decision in decided
        ],
        "this_call_s": round(time.monotonic() - started_s),
        **machine,
    }
    put(options.out, {**results, **raw})
    return results


def images_by_arm(options: argparse.Namespace) -> Mapping[str, Path]:
    """Return the folder of decoded images of each arm.

    Raises:
        ArchPriorError: A dataset is not there.
    """
    decoded = options.work.absolute() / "images"
    found = dict.fromkeys(options.arms, write_task(options.images, decoded))
    if ELSEWHERE in found:
        split = options.elsewhere / "split.json"
        if not split.is_file():
            todo = f"Run `make domains`, or leave {ELSEWHERE} out of --arms."
            raise InvalidOptionError("no other dataset to choose by", got=str(options.elsewhere), todo=todo)
        # No prior has met these classes, and none of them names a thing of CIFAR-10.
        classes = ClassSplit.read(split).meta_test[:NUM_ELSEWHERE]
        found[ELSEWHERE] = write_task(options.elsewhere / f"{options.elsewhere.name}.npz", decoded, classes)
    return found


def prior_folder(prior: str | None) -> Path | None:
    """Return the folder of the prior that is asked for, None for none; absent: the bundled one.

    Raises:
        InvalidOptionError: No prior lies there.
    """
    if prior == NO_PRIOR:
        return None
    folder = Path(prior) if prior else bundled_folder() / str(bundled_default("nas_bench_201"))
    if not (folder / CARD).is_file():
        raise InvalidOptionError("no prior in this folder", got=str(folder), expected=f"one with {CARD}, or 'none'")
    return folder.absolute()


def of_cap(judge: Judge, cap: Cap, arms: Mapping[str, Summary], standings: Sequence[Standing]) -> dict[str, object]:
    """Return what came out at one cap."""
    return {
        "max_macs": cap.max_macs,
        **judge.field(cap),
        "arms": {arm: asdict(summary) for arm, summary in arms.items()},
        "ours": compare([standing for standing in standings if standing.cap == cap.name], OURS),
    }


def most_s(decided: Sequence[tuple[Run, Decision]], arm: str) -> float:
    """Return the seconds of an arm's longest run."""
    return max(decision.used_s for one, decision in decided if one.job.arm == arm)


if __name__ == "__main__":
    sys.exit(main())
