"""Made-up outcomes, and an executor that executes nothing."""

import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from workers.bench.records import Order, Outcome, RunRecord
from workers.bench.runs import Run
from workers.contracts.adaptations import Failure
from workers.tasks.packed import png_bytes

CELL = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|"
OTHER = "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|"


def write_colors(path: Path, parts: Sequence[str] = ("",)) -> None:
    """Write a zip of three classes, 40 noisy images of 8 x 8 pixels each in every part: mostly red, green or blue."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for part in parts:
            for label in range(3):
                for number in range(40):
                    pixels = generator.integers(0, 120, (8, 8, 3), dtype=np.uint8)
                    pixels[..., label] += 100
                    archive.writestr(f"{part}{'rgb'[label]}/{number}.png", png_bytes(pixels))


def outcome_of(**changes: object) -> Outcome:
    values = {
        "architecture": CELL,
        "accuracy": 0.5,
        "query_accuracy": 0.6,
        "nll": 1.5,
        "calibration_error": 0.1,
        "params": 1000,
        "macs": 9000,
        "resolution": 16,
        "num_train": 70,
        "num_query": 15,
        "num_test": 15,
        "searching_helped": None,
        "verdict": "",
        "budget_note": "",
        "timings_s": {"total": 9.0},
        "wall_s": 11.0,
        "cpu_s": 8.0,
        "code": "c0de",
    }
    return Outcome.model_validate({**values, **changes})


def record_of(run: Run, outcome: Outcome | None, fingerprint: str = "f") -> RunRecord:
    failure = Failure(code="error", what="it broke") if outcome is None else None
    return RunRecord(
        dataset=run.dataset,
        arm=run.arm,
        seed=run.seed,
        budget_s=run.budget_s,
        fingerprint=fingerprint,
        request=None,
        outcome=outcome,
        failure=failure,
    )


class FakeExecutor:
    """Ends runs in the order in which they began, by what `outcome` returns for each.

    Attributes:
        started: Orders, in their order.
        most_at_once: That had begun and not ended.
    """

    def __init__(self, outcome: Callable[[Order], Outcome | Failure] = lambda _: outcome_of()) -> None:
        self.started: list[Order] = []
        self.most_at_once = 0
        self._outcome = outcome
        self._active: deque[Order] = deque()

    @property
    def keys(self) -> list[str]:
        return [order.run.key for order in self.started]

    def start(self, order: Order) -> None:
        self.started.append(order)
        self._active.append(order)
        self.most_at_once = max(self.most_at_once, len(self._active))

    def next_ended(self) -> tuple[Run, Outcome | Failure]:
        order = self._active.popleft()
        return order.run, self._outcome(order)
