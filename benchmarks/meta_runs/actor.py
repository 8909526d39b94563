"""How much one parameter actor takes: gradients of three sizes from 1 to 64 clients, and a model fitted to that.

The actor is the product's, with a real configuration whose number of channels makes the size; it unpacks, aggregates,
clips, steps and packs as in a run. Clients are small processes without torch: each puts a prepared gradient into the
object store, pushes it, and waits for the answer (where that completes a step, for the new version too), again and
again. A size is that of the gradient in float32, and of the version that is published.

usage: make bench-actor, or python -m benchmarks.meta_runs.actor [--seconds S] [--clients N]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import ray
import torch

from benchmarks.machine import IMAGES, describe, local_ray, write
from benchmarks.meta_runs.actor_ends import CLASS_NAMES, Client, Door
from benchmarks.meta_runs.actor_model import Point, errors_of, fit, outlook
from benchmarks.meta_runs.actor_plots import draw_saturation, draw_updates
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import MacroSpec
from workers.meta.flat import Flat, pack
from workers.meta.learning.state import MetaState

CLIENTS: Final = (1, 2, 4, 8, 16, 32, 64)
CHANNELS: Final = {"0.4 MB": 8, "4 MB": 25, "40 MB": 80}
# Left out of the fit: what the model says of these is compared with what they gave.
TEST_CLIENTS: Final = (4, 32)
TEST_CHANNELS: Final = 44  # 12 MB
NUM_SLOTS: Final = 8
OTHER_NUM_SLOTS: Final = (1, 32)  # so that a push and a step can be told apart
STORE_BYTES: Final = 6 << 30
SPARE_BYTES: Final = 4 << 30
SETTLE_S: Final = 0.7
MIN_UPDATES: Final = 8


@dataclass(frozen=True, kw_only=True)
class Load:
    """One measurement to take: how large, how many slots a step, with how many clients."""

    channels: int
    num_slots: int
    clients: tuple[int, ...]


def main() -> int:
    """Measure, fit, draw, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=CLIENTS[-1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = describe()
    clients = tuple(number for number in CLIENTS if number <= options.clients)
    few = tuple(number for number in (2, 8) if number <= options.clients)
    loads = [Load(channels=channels, num_slots=NUM_SLOTS, clients=clients) for channels in CHANNELS.values()]
    loads += [Load(channels=CHANNELS["4 MB"], num_slots=number, clients=few) for number in OTHER_NUM_SLOTS]
    loads += [Load(channels=CHANNELS["40 MB"], num_slots=1, clients=few)]
    loads += [Load(channels=TEST_CHANNELS, num_slots=NUM_SLOTS, clients=few)]
    points: list[Point] = []
    skipped: list[str] = []
    with local_ray(num_cpus=2, object_store_bytes=STORE_BYTES), tempfile.TemporaryDirectory() as folder:
        crowd: list[Any] = [ray.remote(Client).options(num_cpus=0).remote() for _ in range(max(clients))]
        ray.get([client.ready.remote() for client in crowd], timeout=300)
        for load in loads:
            found, left_out = measure(load, crowd, Path(folder), options.seconds)
            points += found
            skipped += left_out
    fitted = [point for point in points if not is_test(point)]
    tested = [point for point in points if is_test(point)]
    model = fit(fitted)
    results: dict[str, object] = {
        "benchmark": "actor",
        "updates_per_s": table(points, lambda point: point.updates_per_s),
        "mb_per_s": table(points, lambda point: point.updates_per_s * point.gradient_mb),
        "model": model.as_dict(),
        "errors_of_fit": errors_of(model, fitted),
        "errors_of_test": errors_of(model, tested),
        "outlook": outlook(model),
        "not_measured": skipped,
    }
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / "actor_updates.svg").write_text(draw_updates(model, [p for p in points if p.num_slots == NUM_SLOTS]))
    (IMAGES / "actor_saturation.svg").write_text(draw_saturation(model))
    write("actor", results, {**about, "points": [point.as_dict() for point in points]})
    return 0


def is_test(point: Point) -> bool:
    """Return whether a point is left out of the fit."""
    return point.channels == TEST_CHANNELS or (point.num_slots == NUM_SLOTS and point.clients in TEST_CLIENTS)


def table(points: list[Point], value: Callable[[Point], float]) -> dict[str, dict[str, float]]:
    """Return a number of each point by size and clients, for the usual number of slots."""
    rows: dict[str, dict[str, float]] = {}
    for point in points:
        if point.num_slots == NUM_SLOTS:
            rows.setdefault(f"{point.gradient_mb:.1f} MB", {})[str(point.clients)] = round(value(point), 1)
    return rows


def measure(load: Load, crowd: list[Any], folder: Path, seconds: float) -> tuple[list[Point], list[str]]:
    """Return the points of one size; and in words, which ones there was no memory for."""
    config = MetaConfig.model_validate(
        {
            "macro": MacroSpec(num_channels=load.channels, num_cells=1),
            "num_steps": 1_000_000,
            "warmup_steps": 0,
            "joint_steps": 1_000_000,
            "num_slots": load.num_slots,
        }
    )
    gradient = make_gradient(config)
    packed = ray.put((gradient.layout, gradient.values))
    server: Any = ray.remote(Door).options(num_cpus=0).remote(config, folder)
    ray.get(server.read.remote(), timeout=120)
    points, skipped = [], []
    for clients in load.clients:
        needed = 2 * clients * gradient.num_bytes
        if needed > min(STORE_BYTES, available_bytes() - SPARE_BYTES):
            skipped.append(f"{clients} clients of {gradient.num_bytes / 1e6:.1f} MB: {needed / 1e9:.1f} GB needed")
            continue
        # Large gradients from many clients take a while for each to have its turn.
        window_s = max(seconds, clients * gradient.num_bytes / 400e6)
        point = observe(load, server, crowd[:clients], packed, gradient, window_s)
        print(point, file=sys.stderr, flush=True)
        points.append(point)
    ray.kill(server)
    return points, skipped


def observe(load: Load, server: Any, crowd: list[Any], packed: Any, gradient: Flat, window_s: float) -> Point:
    """Return one point: the actor's counters over a window in which all clients push; a longer one if little came."""
    begin = time.time() + 0.2
    end = begin + SETTLE_S + window_s
    running = [client.run.remote(server, packed, begin, end) for client in crowd]
    time.sleep(begin + SETTLE_S - time.time())
    before = ray.get(server.read.remote(), timeout=120)
    time.sleep(max(0.0, end - time.time()))
    after = ray.get(server.read.remote(), timeout=120)
    client_cpu_s = ray.get(running, timeout=300)
    passed_s, updates, busy_s, cpu_s = (b - a for a, b in zip(before, after, strict=True))
    if updates < max(MIN_UPDATES, len(crowd)):
        return observe(load, server, crowd, packed, gradient, 3 * window_s)
    return Point(
        channels=load.channels,
        gradient_mb=gradient.num_bytes / 1e6,
        num_slots=load.num_slots,
        clients=len(crowd),
        updates_per_s=updates / passed_s,
        busy_ms=1000 * busy_s / updates,
        cpu_ms=1000 * cpu_s / updates,
        client_cpu_ms=1000 * float(np.median(client_cpu_s)),
    )


def make_gradient(config: MetaConfig) -> Flat:
    """Return a gradient such as a worker sends: small noise for everything but the scales."""
    generator = torch.Generator().manual_seed(0)
    arrays = MetaState(config, CLASS_NAMES).prior_with_heads.to_arrays()
    return pack(
        {
            name: (torch.randn(array.shape, generator=generator) * 1e-4).contiguous()
            for name, array in arrays.items()
            if not name.startswith("log_scale/")
        }
    )


def available_bytes() -> int:
    """Return the memory that nobody needs now."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


if __name__ == "__main__":
    sys.exit(main())
