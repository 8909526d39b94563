"""What a result was measured on, where results lie, and a Ray of a benchmark's own on loopback."""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import ray

from search_spaces.errors import ArchPriorError
from workers.bench.machine import describe as describe_machine

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
IMAGES: Final = ROOT / "docs" / "images"


def describe() -> dict[str, object]:
    """Return the machine, the versions, the command and the time, for a file of results."""
    return describe_machine(shlex.join(["python", "-m", module_of(Path(sys.argv[0])), *sys.argv[1:]]))


def module_of(path: Path) -> str:
    """Return by what name Python runs a file of the project; of another file, the name that it has."""
    if not path.is_relative_to(ROOT):
        return path.stem
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


def write(name: str, results: dict[str, object], raw: dict[str, object]) -> None:
    """Write `benchmarks/results/NAME.json`; end with the results as one line of JSON."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**results, **raw}, indent=1) + "\n")
    print(json.dumps(results), flush=True)


def put(path: Path, results: Mapping[str, object]) -> None:
    """Write a file of results whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    partial.replace(path)


def say(what: str) -> None:
    """Tell how far it is, on stderr."""
    print(what, file=sys.stderr, flush=True)


def end_with(run: Callable[[], Mapping[str, object]]) -> int:
    """Run a benchmark; end with its results as one line of JSON, or with why there are none. Return the exit status."""
    try:
        results = run()
    except ArchPriorError as error:
        print(f"not run: {error}", file=sys.stderr)
        return 1
    print(json.dumps(results, allow_nan=False))
    return 0


@contextmanager
def local_ray(*, num_cpus: int, object_store_bytes: int) -> Iterator[None]:
    """Run a Ray of this process's own on loopback, ended with it; CPUs are only counted."""
    ray.init(
        address="local",
        num_cpus=num_cpus,
        object_store_memory=object_store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()
