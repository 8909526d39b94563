"""An attempt's numbers as metrics of Ray, which its dashboard and Prometheus read."""

from collections.abc import Mapping, Sequence
from typing import Final

from ray.util.metrics import Gauge

from workers.contracts.meta_runs import MetaEvent, MetaProgress

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "step": "Meta-steps taken",
    "loss": "Loss of the last steps, in nats per example",
    "slots_per_s": "Tasks whose gradient was computed, a second",
    "staleness": "Mean versions between a gradient and the prior that it moved",
    "data_wait": "Share of the workers' time spent waiting for data",
    "workers": "Gradient workers that can compute",
    "dropped_gradients": "Gradients dropped so far, by reason",
    "gradient_norm": "Norm of the last step's gradient before clipping, by group",
    "entropy": "Entropy of a decision of the prior, in nats",
}
TAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "dropped_gradients": ("reason",),
    "gradient_norm": ("group",),
    "entropy": ("decision",),
}


class RayMetrics:
    """Sets gauges named `archprior_meta_<name>` (Ray puts `ray_` before them), tagged with the run.

    Args:
        meta_run_id: Of the run.
    """

    def __init__(self, meta_run_id: str) -> None:
        self._gauges = {
            name: Gauge(f"archprior_meta_{name}", description, tag_keys=("meta_run", *TAGS.get(name, ())))
            for name, description in DESCRIPTIONS.items()
        }
        for gauge in self._gauges.values():
            gauge.set_default_tags({"meta_run": meta_run_id})

    def progress(self, progress: MetaProgress) -> None:
        """Set every gauge that progress knows a value for."""
        plain = {
            "step": float(progress.step),
            "loss": progress.loss,
            "slots_per_s": progress.slots_per_s,
            "staleness": progress.staleness,
            "data_wait": progress.data_wait,
            "workers": float(sum(worker.state != "starting" for worker in progress.workers)),
        }
        for name, value in plain.items():
            if value is not None:
                self._gauges[name].set(value)
        counters = progress.counters
        dropped = {"not_finite": counters.not_finite, "stale": counters.stale, "duplicate": counters.duplicate}
        self._set("dropped_gradients", "reason", dropped)
        self._set("gradient_norm", "group", progress.gradient_norms)
        self._set("entropy", "decision", {str(number): value for number, value in enumerate(progress.entropies)})

    def events(self, events: Sequence[MetaEvent]) -> None:
        """Nothing: events are no numbers."""

    def _set(self, name: str, tag: str, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._gauges[name].set(value, tags={tag: key})
