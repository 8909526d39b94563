"""Ray's own gauges, with no Ray running: they take what they are given, and check its tags."""

from typing import ClassVar

import pytest
from ray.util.metrics import Gauge

from workers.contracts.meta_runs import Counters, MetaEvent, MetaProgress, WorkerView
from workers.meta import metrics as module
from workers.meta.metrics import DESCRIPTIONS, RayMetrics


class RememberingGauge(Gauge):
    """Ray never tells what a gauge stands at."""

    standing: ClassVar[dict[str, dict[frozenset[tuple[str, str]], float]]] = {}

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        super().set(value, tags)
        all_tags = {**self.info["default_tags"], **(tags or {})}
        self.standing.setdefault(self.info["name"], {})[frozenset(all_tags.items())] = value


@pytest.fixture(autouse=True)
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RememberingGauge, "standing", {})
    monkeypatch.setattr(module, "Gauge", RememberingGauge)


def standing(name: str, **tags: str) -> float | None:
    by_tags = RememberingGauge.standing.get(f"archprior_meta_{name}", {})
    return by_tags.get(frozenset({"meta_run": "mr_1", **tags}.items()))


PROGRESS = MetaProgress(
    phase="learning",
    step=7,
    num_steps=20,
    loss=1.5,
    gradient_norms={"loc": 3.0, "arch_logits": 0.5},
    entropies=(1.25, 0.75),
    slots_per_s=2.5,
    staleness=0.125,
    data_wait=0.25,
    workers=tuple(
        WorkerView(id=f"worker-{number}", state=state) for number, state in enumerate(("starting", "idle", "busy"))
    ),
    counters=Counters(slots=14, not_finite=1, stale=2, duplicate=3, backups=4),
    updated_at=1.0,
)


def test_every_number_of_progress_is_a_gauge_with_the_run_as_its_tag() -> None:
    RayMetrics("mr_1").progress(PROGRESS)
    assert {name: standing(name) for name in ("step", "loss", "slots_per_s", "staleness", "data_wait")} == {
        "step": 7.0, "loss": 1.5, "slots_per_s": 2.5, "staleness": 0.125, "data_wait": 0.25
    }  # fmt: skip
    assert standing("workers") == 2.0  # those that start cannot compute yet
    assert {group: standing("gradient_norm", group=group) for group in ("loc", "arch_logits")} == {
        "loc": 3.0, "arch_logits": 0.5
    }  # fmt: skip
    assert [standing("entropy", decision=str(number)) for number in range(2)] == [1.25, 0.75]
    dropped = {reason: standing("dropped_gradients", reason=reason) for reason in ("not_finite", "stale", "duplicate")}
    assert dropped == {"not_finite": 1, "stale": 2, "duplicate": 3}
    # What is described is set, and the other way round.
    assert RememberingGauge.standing.keys() == {f"archprior_meta_{name}" for name in DESCRIPTIONS}


def test_before_the_first_step_there_is_no_loss_and_everything_else_stands_at_its_beginning() -> None:
    RayMetrics("mr_1").progress(MetaProgress(phase="starting", updated_at=1.0))
    assert standing("loss") is None
    assert (standing("step"), standing("workers"), standing("dropped_gradients", reason="stale")) == (0.0, 0.0, 0)


def test_a_gauge_stands_at_what_was_last_known() -> None:
    metrics = RayMetrics("mr_1")
    metrics.progress(PROGRESS)
    metrics.progress(PROGRESS.model_copy(update={"step": 8, "loss": 1.25, "gradient_norms": {"loc": 2.0}}))
    assert (standing("step"), standing("loss"), standing("gradient_norm", group="loc")) == (8.0, 1.25, 2.0)


def test_events_set_nothing() -> None:
    RayMetrics("mr_1").events([MetaEvent(sequence=1, at=1.0, kind="warning", step=3, message="m")])
    assert RememberingGauge.standing == {}
