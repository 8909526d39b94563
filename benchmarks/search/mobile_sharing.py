"""Two supernets of the mobile space, whose blocks have weights of their own or share slices: which one ranks better.

Architectures of all depths are drawn. What they are worth is their held-out loss after a brief training alone, the mean
of two runs; what a supernet thinks of them is their held-out loss with its weights, batch norm recalibrated, as an
adaptation scores its candidates. Both supernets see the same batches along the same uniformly drawn paths, at the rates
of an adaptation without a prior, one thread for all. `tau` is Kendall's between the two, with intervals over
architectures (bootstrap); `tau_alone` is that between the two runs alone, which bounds what any score can reach, and
`tau_params` is that of counting parameters. `loss` is the mean of those held-out losses, in nats; chance is ln 10.

usage: python -m benchmarks.search.mobile_sharing [--archs N] [--alone-steps N] [--steps N N] [--seeds N]
"""

import argparse
import dataclasses
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from benchmarks.machine import ROOT, describe, write
from search_spaces.architecture import Architecture
from search_spaces.mobile.body import MobileBody, Sharing
from search_spaces.mobile.chain import SKIP
from search_spaces.network import build_network, recalibrate
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet
from workers.adapt.choice import calibration_batches, inherited_network, predict
from workers.adapt.data import SupportStream, TaskData, make_part
from workers.adapt.search import CLIP, LR_HEAD, LR_WEIGHTS, MOMENTUM, path_loss
from workers.tasks.sources import load_source

DATA: Final = Path(os.environ.get("ARCHPRIOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
SOURCE: Final = "cifar10_test.npz"  # 10,000 images, as good as any others here
SPACE: Final = SPACES["mobile"]
SIDE, BATCH, NUM_QUERY = 16, 64, 1500
MACRO: Final = Macro(num_channels=8, num_cells=1, num_classes=10, image_size=SIDE)  # half the default's channels
LR_ALONE: Final = 0.05
NUM_RUNS: Final = 2
NUM_RESAMPLES: Final = 2000
FORMS: Final[tuple[Sharing, ...]] = get_args(Sharing)


def main() -> int:
    """Measure, write the results, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", type=int, default=16)
    parser.add_argument("--alone-steps", type=int, default=130)
    parser.add_argument("--steps", type=int, nargs="+", default=[300, 900])
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    if not (DATA / SOURCE).exists():
        print(f"not run: {DATA} has no {SOURCE}; set ARCHPRIOR_SHARED_DATA to the folder that has it")
        return 1
    torch.set_num_threads(1)
    machine, started_s = describe(), time.monotonic()
    data = load_data()
    archs = draw_architectures(options.archs)
    alone = [[train_alone(arch, data, options.alone_steps, seed) for arch in archs] for seed in range(NUM_RUNS)]
    print(f"alone: mean loss {np.mean(alone):.3f}, after {time.monotonic() - started_s:.0f} s", flush=True)
    scores: dict[Sharing, dict[int, list[list[float]]]] = {form: {} for form in FORMS}
    step_s: dict[Sharing, list[float]] = {form: [] for form in FORMS}
    for seed in range(options.seeds):
        for form in FORMS:
            found, seconds = train_supernet(form, archs, data, options.steps, seed)
            step_s[form].append(seconds)
            for steps, losses in found.items():
                scores[form].setdefault(steps, []).append(losses)
            print(f"{form}, seed {seed}, after {time.monotonic() - started_s:.0f} s", flush=True)
    params = [SPACE.cost(arch, MACRO).params for arch in archs]
    results = {
        "benchmark": "mobile_sharing",
        "architectures": options.archs,
        "alone_steps": options.alone_steps,
        "seeds": options.seeds,
        "macro": dataclasses.asdict(MACRO),
        "tau": {form: {n: interval(scores[form][n], alone) for n in options.steps} for form in FORMS},
        "slices_better_by": {n: paired(scores["slices"][n], scores["separate"][n], alone) for n in options.steps},
        "loss": {form: {n: round(float(np.mean(scores[form][n])), 3) for n in options.steps} for form in FORMS},
        "loss_alone": round(float(np.mean(alone)), 3),
        "tau_alone": round(tau(alone[0], alone[1]), 3),
        "tau_params": round(tau([-count for count in params], np.mean(alone, axis=0)), 3),
        "supernet_params": {form: count_params(form) for form in FORMS},
        "cpu_s_per_step": {form: round(statistics.mean(step_s[form]), 4) for form in FORMS},
        "data": f"{SOURCE}: JPEG copies, to be compared with each other only",
        "total_s": round(time.monotonic() - started_s),
        "cpu_s": round(time.process_time()),
        **machine,
    }
    raw = {"archs": [SPACE.format(arch) for arch in archs], "params": params, "alone": alone, "scores": scores}
    write("mobile_sharing", results, raw)
    return 0


def load_data() -> TaskData:
    """Return images to learn from and images to score by; none to report on."""
    source = load_source(DATA / SOURCE, SIDE)
    order = np.random.default_rng(0).permutation(len(source))
    parts = [
        make_part(source.images, source.labels, index, torch.device("cpu"))
        for index in (order[NUM_QUERY:], order[:NUM_QUERY], order[:0])
    ]
    return TaskData(support=parts[0], query=parts[1], test=parts[2], classes=source.classes)


def draw_architectures(number: int, seed: int = 0) -> list[Architecture]:
    """Return architectures from the deepest to the shallowest: in each a larger share of the layers is left out."""
    rng = random.Random(seed)
    return [skipped(draw_path(rng), position / (number - 1), rng) for position in range(number)]


def skipped(arch: Architecture, share: float, rng: random.Random) -> Architecture:
    """Return the architecture with a share, on average, of the layers that can be left out left out."""
    choices = [
        decision.options.index(SKIP) if SKIP in decision.options and rng.random() < share else choice
        for decision, choice in zip(SPACE.decisions, arch.choices, strict=True)
    ]
    return Architecture(SPACE.name, tuple(choices))


def draw_path(rng: random.Random) -> Architecture:
    """Return a uniformly drawn architecture; all are valid."""
    return Architecture(SPACE.name, tuple(rng.randrange(len(decision.options)) for decision in SPACE.decisions))


def train_alone(arch: Architecture, data: TaskData, num_steps: int, seed: int) -> float:
    """Return the held-out loss of a network that was trained alone, in nats."""
    network = build_network(arch, MACRO, generator=torch.Generator().manual_seed(seed)).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR_ALONE, momentum=MOMENTUM, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    stream = new_stream(data, seed)
    for _ in range(num_steps):
        images, labels = stream.next(SIDE)
        take_step(network, optimizer, F.cross_entropy(network(images), labels))
        schedule.step()
    recalibrate(network, calibration_batches(data.support))
    return held_out_loss(network.eval(), data)


def train_supernet(
    form: Sharing, archs: Sequence[Architecture], data: TaskData, snapshots: Sequence[int], seed: int
) -> tuple[dict[int, list[float]], float]:
    """Return each architecture's held-out loss with the supernet's weights, by number of steps; CPU seconds a step."""
    body = partial(MobileBody, sharing=form)
    supernet = build_supernet(SPACE.name, MACRO, generator=torch.Generator().manual_seed(seed), body=body)
    optimizer = torch.optim.SGD(
        [
            {"params": list(supernet.body.parameters()), "lr": LR_WEIGHTS},
            {"params": list(supernet.classifier.parameters()), "lr": LR_HEAD},
        ],
        momentum=MOMENTUM,
        nesterov=True,
    )
    stream, rng = new_stream(data, seed), random.Random(seed)
    found, used_s = {}, 0.0
    for step in range(1, max(snapshots) + 1):
        images, labels = stream.next(SIDE)
        path = draw_path(rng)
        before_s = time.process_time()
        take_step(supernet, optimizer, path_loss(supernet, path, images, labels))
        used_s += time.process_time() - before_s
        if step in snapshots:
            weights = dict(supernet.named_parameters())
            found[step] = [held_out_loss(inherited_network(arch, MACRO, weights, data), data) for arch in archs]
    return found, used_s / max(snapshots)


def new_stream(data: TaskData, seed: int) -> SupportStream:
    """Return the batches of a run: the same for both forms."""
    return SupportStream(data.support, BATCH, flip=True, generator=torch.Generator().manual_seed(seed))


def take_step(module: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step on the gradient of a loss, clipped as in an adaptation."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
    optimizer.step()


def held_out_loss(network: nn.Module, data: TaskData) -> float:
    """Return the mean loss over the held-out images, in nats."""
    return float(F.cross_entropy(predict(network, data.query), data.query.labels))


def count_params(form: Sharing) -> int:
    """Return the parameters of a supernet."""
    supernet = build_supernet(SPACE.name, MACRO, body=partial(MobileBody, sharing=form))
    return sum(p.numel() for p in supernet.parameters())


def tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Kendall's tau between two lists of scores."""
    return float(stats.kendalltau(first, second).statistic)


def mean_tau(scores: Sequence[Sequence[float]], alone: Sequence[Sequence[float]], picks: np.ndarray) -> float:
    """Return the mean over seeds of tau on picked architectures."""
    worth = np.mean(alone, axis=0)[picks]
    return statistics.mean(tau(np.asarray(losses)[picks], worth) for losses in scores)


def interval(scores: Sequence[Sequence[float]], alone: Sequence[Sequence[float]]) -> Mapping[str, float]:
    """Return tau, the mean over seeds, and its 95 % interval over architectures."""
    return bootstrapped(lambda picks: mean_tau(scores, alone, picks), len(alone[0]))


def paired(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], alone: Sequence[Sequence[float]]
) -> Mapping[str, float]:
    """Return by how much the first scores' tau is larger, and its 95 % interval."""
    return bootstrapped(lambda picks: mean_tau(first, alone, picks) - mean_tau(second, alone, picks), len(alone[0]))


def bootstrapped(value: Callable[[np.ndarray], float], number: int) -> dict[str, float]:
    """Return a statistic of all architectures and percentiles of it over resampled ones."""
    rng = np.random.default_rng(0)
    drawn = [value(rng.integers(0, number, number)) for _ in range(NUM_RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"tau": round(value(np.arange(number)), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


if __name__ == "__main__":
    sys.exit(main())
