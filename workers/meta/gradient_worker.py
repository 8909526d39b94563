"""Computes gradients of the shared prior, one slot at a time. A Ray actor at the edge.

A plain class: `crew.py` makes it remote. What it computes depends on the prior that it is handed and on the slot alone,
so another worker's result is the same, and a lost worker costs nothing but time.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from workers.bayes.aggregate import is_finite
from workers.bayes.distributions import MetaPrior
from workers.contracts.errors import InvalidDatasetError
from workers.contracts.loss_model import LossModel
from workers.contracts.meta_config import MetaConfig
from workers.meta.board import Slot, Tryout
from workers.meta.flat import Flat, pack, unpack
from workers.meta.learning.data import MetaData
from workers.meta.learning.evaluation import judge
from workers.meta.learning.memory import is_out_of_memory
from workers.meta.learning.prefetch import Prefetcher
from workers.meta.learning.slot import Drawn, SlotWork, draw, gradient, without_heads
from workers.meta.parameters import SlotReport
from workers.meta.trials.plan import architectures
from workers.meta.trials.trial import Trial, Workshop, draw_task, run_trial
from workers.tasks.class_split import check_ways
from workers.tasks.distribution import ClassImages, TaskDistribution

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """Where a worker runs.

    Attributes:
        device: Of torch, in words.
        load_s: Seconds until its data were ready.
        class_names: Of the classes that the run learns from, by label.
        can_judge: Whether classes are held out.
    """

    host: str
    pid: int
    device: str
    load_s: float
    class_names: tuple[str, ...]
    can_judge: bool


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Which data to draw: those of a slot, batches divided by `batch_divisor`."""

    slot: Slot
    batch_divisor: int


class GradientWorker:
    """One worker of a meta-run.

    Args:
        config: Of the run.
        load: Reads the run's data; called once, by `prepare`.
        num_threads: Threads of torch. Sums may depend on it, so all workers of a run have the same.
        use_gpu: Whether to compute on the GPU that this process sees.
    """

    def __init__(self, config: MetaConfig, load: Callable[[], MetaData], *, num_threads: int, use_gpu: bool) -> None:
        self._config, self._load, self._num_threads = config, load, num_threads
        self._device = torch.device("cuda" if use_gpu else "cpu")
        # Two calls overlap: while the gradient of one slot goes into Ray's memory, the next slot is computed.
        self._turn = threading.Lock()

    def prepare(self) -> WorkerInfo:
        """Read the data; return where this worker runs. Comes before everything else.

        Raises:
            InvalidDatasetError: The data cannot be read, or hold too little.
        """
        began_s = time.monotonic()
        torch.set_num_threads(self._num_threads)
        data, config = self._load(), self._config
        self._data = data
        resolutions = dict(zip(config.resolutions, config.resolution_weights, strict=True))
        learned = data.meta_train or data.meta_validation
        if learned is None:
            raise InvalidDatasetError("the run's datasets hold no class to learn from or to judge by")
        weights = data.dataset_weights if data.meta_train is not None else None
        distribution = TaskDistribution(learned, resolutions, weights)
        if data.meta_train is not None and (config.joint_steps < config.num_steps or config.trials is not None):
            # Now, rather than at the first task, after all batches of the parts before.
            check_ways(distribution.num_classes_by_dataset, config.min_ways)
        self._work = SlotWork.build(config, distribution, self._device)
        self._held_out = _distribution(data.meta_validation, resolutions)
        self._prefetcher: Prefetcher[Draft, Drawn] = Prefetcher(partial(_draw, self._work))
        return WorkerInfo(
            host=socket.gethostname(),
            pid=os.getpid(),
            device="CPU" if self._device.type == "cpu" else torch.cuda.get_device_name(self._device),
            load_s=time.monotonic() - began_s,
            class_names=learned.class_names,
            can_judge=self._held_out is not None,
        )

    def compute(
        self, prior: Flat, version: int, slot: Slot, hint: Slot | None, batch_divisor: int
    ) -> tuple[SlotReport, Flat | None]:
        """Return the report of a slot, and its gradient if there is one.

        Args:
            prior: With the persistent heads.
            version: Of that prior.
            slot: To compute.
            hint: The slot that is likely to be next: its data are drawn while this one is computed.
            batch_divisor: By which batches are divided; 1 unless memory was short.
        """
        with self._turn:
            began_s, waited_s = time.monotonic(), self._prefetcher.waited_s
            try:
                drawn = self._prefetcher.take(Draft(slot=slot, batch_divisor=batch_divisor))
                if hint is not None:
                    self._prefetcher.hint(Draft(slot=hint, batch_divisor=batch_divisor))
                found = gradient(self._work, MetaPrior.from_arrays(unpack(prior)), drawn)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                report = SlotReport(
                    slot=slot, version=version, batch_divisor=batch_divisor, out_of_memory=True, finite=False
                )
                return report, None
            seconds, waited_s = time.monotonic() - began_s, self._prefetcher.waited_s - waited_s
        finite = is_finite(found)
        report = SlotReport(
            slot=slot,
            version=version,
            loss=found.loss if finite else None,
            num_examples=found.num_examples,
            batch_divisor=batch_divisor,
            finite=finite,
            seconds=seconds,
            waited_s=waited_s,
        )
        return report, pack(found.arrays) if finite else None

    def judge(self, prior: Flat, number: int) -> dict[int, float] | None:
        """Return the accuracy on one held-out task by number of inner steps, or None where memory is short.

        Raises:
            InvalidDatasetError: The run holds no classes out.
        """
        if self._held_out is None:
            raise InvalidDatasetError("nothing is held out to judge a prior by", todo="Name meta_validation classes.")
        held_out = self._held_out
        with self._turn:
            return _unless_short(lambda: judge(self._work, held_out, MetaPrior.from_arrays(unpack(prior)), number))

    def try_out(self, prior: Flat, tryout: Tryout, known: LossModel | None) -> Trial | None:
        """Return a trial, or None where memory is short.

        Args:
            prior: With or without the persistent heads, which are not used.
            tryout: Which trial.
            known: What the first half of the tasks has taught; None for those of the first half.

        Raises:
            InvalidDatasetError: The run learns from no classes, or makes no trials.
        """
        if self._config.trials is None:
            raise InvalidDatasetError("no trials in the configuration")
        bare = without_heads(MetaPrior.from_arrays(unpack(prior)))
        shop = Workshop.build(self._config, self._config.trials, self._data, bare, self._device)
        with self._turn:
            return _unless_short(partial(_make, shop, tryout, known))


def _unless_short(work: Callable[[], Result]) -> Result | None:
    """Return what a call returns, or None where memory is short."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _make(shop: Workshop, tryout: Tryout, known: LossModel | None) -> Trial:
    raw = draw_task(shop, tryout.task)
    arch = architectures(shop, raw, tryout.task, known)[tryout.number]
    return run_trial(shop, raw, tryout.task, tryout.number, arch)


def _draw(work: SlotWork, draft: Draft) -> Drawn:
    return draw(work, step=draft.slot.step, slot=draft.slot.number, batch_divisor=draft.batch_divisor)


def _distribution(classes: ClassImages | None, resolutions: dict[int, float]) -> TaskDistribution | None:
    return None if classes is None else TaskDistribution(classes, resolutions)
