"""One turn of one way to take a search step, in a process of its own: images a second and peak memory.

What tells the ways apart is in `Way`. All update the weights on batches of the support, and the choices on as many
images of the query, in each step unless it says otherwise. `product` is the step of an adaptation itself,
`workers.adapt.search.contract`; the others are written here after Liu, Simonyan and Yang (DARTS, 2019, first order) on
the same supernet: the choices by Adam, then the weights by clipped SGD, each by a whole backward pass.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.noise import noise_classes
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from search_spaces.supernet import Supernet, build_supernet
from workers.adapt.data import Part, SupportStream, TaskData
from workers.adapt.limits import Feasible, Limits
from workers.adapt.search import contract
from workers.adapt.sync import Group
from workers.bayes.estimators import Estimator, Relaxed, StraightThrough
from workers.contracts.adaptations import Plan
from workers.priors.model import uniform_logits

NUM_CLASSES: Final = 10
NUM_IMAGES: Final = 2000
MANY: Final = 1_000_000
# Of DARTS, as published.
LR_WEIGHTS, MOMENTUM, WEIGHT_DECAY, CLIP = 0.025, 0.9, 3e-4, 5.0
LR_CHOICES, BETAS, CHOICES_DECAY = 3e-4, (0.5, 0.999), 1e-3


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a step is taken.

    Attributes:
        product: Whether by the product's own search: sampled, `channels_last`, choices by forward passes.
        sampled: Whether one op runs for each decision (straight-through), not all of them.
        channels_last: Whether activations lie in that layout, or in torch's default one.
        fast_ops: Whether ops are computed by `search_spaces.depthwise` and `search_spaces.pooling`, or by torch alone.
        num_arch_samples: Paths that a step on the choices compares (`product` only).
        choice_every: Steps on the weights for each on the choices, which then reads as many batches' images at once
            (`product` only).
    """

    product: bool = False
    sampled: bool = False
    channels_last: bool = False
    fast_ops: bool = False
    num_arch_samples: int = 4
    choice_every: int = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process measures.

    Attributes:
        space: Name of the search space.
        macro: The skeleton.
        batch: Images of the batch of the weights, and of that of the choices.
        way: How a step is taken.
        device: `cpu` or `cuda`.
        threads: Of torch.
        least_s: Steps are taken until so many seconds are over, after one that is not counted.
    """

    space: str
    macro: Macro
    batch: int
    way: Way
    device: str
    threads: int
    least_s: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came out of `num_steps` steps.

    Attributes:
        num_images: In the batches of the weights and in those of the choices.
        wall_s, cpu_s: Of these steps; CPU seconds of all threads.
        idle_bytes: Memory of the process before the search: torch itself, mostly.
        peak_bytes: The most that it ever had.
        peak_device_bytes: The most that tensors took on a GPU.
    """

    num_steps: int
    num_images: int
    wall_s: float
    cpu_s: float
    idle_bytes: int
    peak_bytes: int
    peak_device_bytes: int


class Observer(Protocol):
    """Who is told of a search, and says when it ends."""

    def begin(self, supernet: Supernet) -> None:
        """Take the supernet, before the first step."""

    def lap(self) -> bool:
        """Note that a step was taken; return whether another is wanted."""


class Stopwatch:
    """Begins after the first step, and says when enough time is over."""

    def __init__(self, least_s: float, device: torch.device) -> None:
        self._least_s, self._device = least_s, device
        self.num_steps = -1
        self._wall_s = self._cpu_s = self.wall_s = self.cpu_s = 0.0

    def begin(self, supernet: Supernet) -> None:
        pass

    def lap(self) -> bool:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self.num_steps += 1
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        if self.num_steps == 0:
            self._wall_s, self._cpu_s = wall_s, cpu_s
        self.wall_s, self.cpu_s = wall_s - self._wall_s, cpu_s - self._cpu_s
        return self.num_steps == 0 or self.wall_s < self._least_s


def measure(job: Job) -> dict[str, object]:
    """Return what a process measured, as JSON takes it."""
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    data = noise_data(job.macro.image_size, device)
    watch = Stopwatch(job.least_s, device)
    idle_bytes = process_bytes("VmRSS")
    search(job.space, job.macro, job.batch, job.way, data, seed=0, observer=watch)
    return asdict(
        Measured(
            num_steps=watch.num_steps,
            num_images=watch.num_steps * 2 * job.batch,
            wall_s=round(watch.wall_s, 4),
            cpu_s=round(watch.cpu_s, 4),
            idle_bytes=idle_bytes,
            peak_bytes=process_bytes("VmHWM"),
            peak_device_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
        )
    )


def process_bytes(name: str) -> int:
    """Return the memory of this process: `VmRSS` now, `VmHWM` at most. (`getrusage` tells its parent's, too.)"""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def noise_data(side: int, device: torch.device) -> TaskData:
    """Return images in memory, decoded: cost does not depend on what they show."""
    source = noise_classes(NUM_CLASSES, NUM_IMAGES // NUM_CLASSES, side)
    order = torch.randperm(len(source.labels), generator=torch.Generator().manual_seed(0))
    half = len(order) // 2
    parts = [
        Part(images=source.images[index].to(device), labels=source.labels[index].to(device))
        for index in (order[:half], order[half:], order[:0])
    ]
    return TaskData(support=parts[0], query=parts[1], test=parts[2], classes=source.class_names)


def search(space: str, macro: Macro, batch: int, way: Way, data: TaskData, *, seed: int, observer: Observer) -> None:
    """Take steps from fresh weights and uniform choices on, until the observer ends it."""
    supernet = build_supernet(space, macro, generator=torch.Generator().manual_seed(seed))
    supernet.to(data.support.labels.device)
    # In evaluation mode torch alone computes the ops; a supernet's batch norm is the same in both.
    supernet.train(way.product or way.fast_ops)
    observer.begin(supernet)
    if not way.product:
        bilevel(supernet, batch, way, data, seed, observer)
    else:
        plan = plan_of(space, macro, batch, way, data, seed)
        contract(
            supernet,
            uniform_logits(supernet.space),
            data,
            plan,
            Feasible(supernet.space, macro, Limits()),
            Group(),
            on_step=lambda step, loss, logits: observer.lap(),  # noqa: ARG005
            query_batch=batch * way.choice_every,
        )


def plan_of(space: str, macro: Macro, batch: int, way: Way, data: TaskData, seed: int) -> Plan:
    """Return the plan of an endless search."""
    return Plan(
        search_space=space,
        prior="none",
        search="supernet",
        seed=seed,
        skeleton=macro.skeleton,
        num_channels=macro.num_channels,
        num_cells=macro.num_cells,
        num_classes=macro.num_classes,
        resolution=macro.image_size,
        num_train=len(data.support),
        num_query=len(data.query),
        num_test=len(data.test),
        num_workers=0,
        batch_size=batch,
        flip=True,
        num_search_steps=MANY,
        choice_every=way.choice_every,
        num_arch_samples=way.num_arch_samples,
        num_candidates=0,
        max_train_steps=1,
        search_s=0.0,
        choice_s=0.0,
        train_s=0.0,
        export_s=0.0,
    )


def bilevel(supernet: Supernet, batch: int, way: Way, data: TaskData, seed: int, observer: Observer) -> None:
    """Search as DARTS does, first order."""
    logits_EO = uniform_logits(supernet.space).requires_grad_()
    choices = torch.optim.Adam([logits_EO], lr=LR_CHOICES, betas=BETAS, weight_decay=0.0)
    weights = torch.optim.SGD(supernet.parameters(), lr=LR_WEIGHTS, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    streams = [SupportStream(part, batch, flip=True, generator=generator) for part in (data.query, data.support)]
    estimator: Estimator = StraightThrough(temperature=1.0) if way.sampled else Relaxed(temperature=1.0, noisy=False)
    mask_EO = torch.tensor(supernet.space.option_mask)

    def loss_of(stream: SupportStream, logits: Tensor) -> Tensor:
        images, labels = stream.next(supernet.macro.image_size)

        def loss(op_weights_EO: Tensor) -> Tensor:
            return F.cross_entropy(logits_in_layout(supernet, images, op_weights_EO, way), labels)

        return estimator.expectation(loss, logits, generator)

    more = True
    while more:
        choices.zero_grad()
        weights.zero_grad()
        loss_of(streams[0], logits_EO).backward()
        with torch.no_grad():  # decay holds for real options only
            logits_EO.grad = logits_EO.grad + CHOICES_DECAY * torch.where(mask_EO, logits_EO, 0.0)
        choices.step()
        weights.zero_grad()
        loss_of(streams[1], logits_EO.detach()).backward()
        nn.utils.clip_grad_norm_(supernet.parameters(), CLIP)
        weights.step()
        more = observer.lap()


def logits_in_layout(supernet: Supernet, images: Tensor, op_weights_EO: Tensor, way: Way) -> Tensor:
    """Return logits [N, K]; all activations follow the layout of the images."""
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    body = supernet.body
    features = body(images.contiguous(memory_format=layout), body.routes(op_weights_EO.to(images.device)))
    logits: Tensor = supernet.classifier(features)
    return logits


def macro_of(space: str, side: int, *, num_channels: int | None = None, num_cells: int | None = None) -> Macro:
    """Return the space's default skeleton at a side in pixels, or one of another width and depth."""
    macro = SPACES[space].default_macro(num_classes=NUM_CLASSES, image_size=side)
    return Macro(
        num_channels=num_channels or macro.num_channels,
        num_cells=num_cells or macro.num_cells,
        num_classes=NUM_CLASSES,
        image_size=side,
    )
