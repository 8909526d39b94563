"""A model of one parameter actor and its clients, fitted to what was measured.

| symbol | meaning | unit |
|---|---|---|
| B | size of a gradient, and of a version | MB |
| T | gradients of a step (`num_slots`) | |
| N | clients, each with one gradient on its way | |
| s | time of the actor for one update: s(B, T) = a + b B + (c + d B) / T | ms |
| z | time of a client for one update, which all clients of one machine share: z(B, T) = e + f B + g B / T | ms |
| X | updates a second: X(N) = N / (R_s + R_z) | 1/s |

a, b: taking a push. c, d: a step and its version, once in T pushes. e, f: putting a gradient, getting the answer.
g: reading a version. The actor and the one core that is left to the clients are two stations of a closed queueing
network; its waiting times R follow from exact mean value analysis (Reiser and Lavenberg 1980). With each client on a
machine of its own, z is a delay and no queue, and the actor alone bounds the whole: X -> 1000 / s.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

SECONDS_PER_SLOT: Final = (0.1, 1.0, 10.0)
SIZES_MB: Final = (0.4, 4.0, 40.0, 400.0)
NUM_SHARDS: Final = 4
FAN_IN: Final = 8
RUN_NUM_SLOTS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement.

    Attributes:
        gradient_mb: B.
        num_slots: T.
        clients: N.
        updates_per_s: X, by the actor's clock.
        busy_ms: Of the actor inside the call, per update.
        cpu_ms: Of the actor's process, per update.
        client_cpu_ms: Of a client's process, per update: median over clients.
    """

    channels: int
    gradient_mb: float
    num_slots: int
    clients: int
    updates_per_s: float
    busy_ms: float
    cpu_ms: float
    client_cpu_ms: float

    def as_dict(self) -> dict[str, float]:
        """Return the numbers by name, rounded."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Model:
    """The fitted coefficients, in ms and ms per MB; see the table above."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float
    g: float

    def service_ms(self, size_mb: float, num_slots: int) -> float:
        """Return s."""
        return self.a + self.b * size_mb + (self.c + self.d * size_mb) / num_slots

    def client_ms(self, size_mb: float, num_slots: int) -> float:
        """Return z."""
        return self.e + self.f * size_mb + self.g * size_mb / num_slots

    def updates_per_s(self, size_mb: float, num_slots: int, clients: int) -> float:
        """Return X of clients that compute nothing, all on one core."""
        demands_ms = (self.service_ms(size_mb, num_slots), self.client_ms(size_mb, num_slots))
        queues, rate = [0.0, 0.0], 0.0
        for number in range(1, clients + 1):
            times_ms = [demand * (1 + queue) for demand, queue in zip(demands_ms, queues, strict=True)]
            rate = number / sum(times_ms)
            queues = [rate * time_ms for time_ms in times_ms]
        return 1000 * rate

    def full_at(self, size_mb: float, seconds_per_slot: float, num_slots: int = RUN_NUM_SLOTS) -> float:
        """Return how many workers, each with a gradient every so many seconds, keep the actor busy all the time."""
        return 1000 * seconds_per_slot / self.service_ms(size_mb, num_slots)

    def as_dict(self) -> dict[str, float]:
        """Return the coefficients, rounded."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def fit(points: Sequence[Point]) -> Model:
    """Return the model with the least squared errors, relative ones, of updates a second and of the actor's CPU time.

    CPU time tells s and z apart, and other load on the machine moves it less. No coefficient is negative.
    """

    def errors(logs: NDArray[np.float64]) -> list[float]:
        model = _model(logs)
        rates = [np.log(_said(model, point) / point.updates_per_s) for point in points]
        return rates + [np.log(_service(model, point) / point.cpu_ms) for point in points]

    start = np.log([1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 0.5])
    return _model(least_squares(errors, start, loss="soft_l1", f_scale=0.2, bounds=(-12, 8)).x)


def errors_of(model: Model, points: Sequence[Point]) -> dict[str, float]:
    """Return the relative errors over what was measured: of updates a second, and of the actor's CPU time for one."""
    rates = [abs(_said(model, point) / point.updates_per_s - 1) for point in points]
    services = [abs(_service(model, point) / point.cpu_ms - 1) for point in points]
    return {
        "points": len(points),
        "median": round(median(rates), 4),
        "largest": round(max(rates), 4),
        "median_cpu": round(median(services), 4),
    }


def outlook(model: Model, num_slots: int = RUN_NUM_SLOTS) -> list[dict[str, float]]:
    """Return when the actor is full, and what would take it further.

    Sharded by k, each of k actors gets a k-th of every gradient: a and c stay, b and d shrink. With a tree of fan-in F,
    an actor for every F workers sums their gradients, and the root takes one in place of F.
    """
    rows = []
    for size_mb in SIZES_MB:
        for seconds in SECONDS_PER_SLOT:
            whole = model.full_at(size_mb, seconds, num_slots)
            rows.append(
                {
                    "size_mb": size_mb,
                    "seconds_per_slot": seconds,
                    "full_at_workers": round(whole, 1),
                    f"sharded_by_{NUM_SHARDS}": round(model.full_at(size_mb / NUM_SHARDS, seconds, num_slots), 1),
                    f"tree_of_fan_in_{FAN_IN}": round(FAN_IN * whole, 1),
                }
            )
    return rows


def _model(logs: NDArray[np.float64]) -> Model:
    return Model(**dict(zip("abcdefg", (float(value) for value in np.exp(logs)), strict=True)))


def _said(model: Model, point: Point) -> float:
    return model.updates_per_s(point.gradient_mb, point.num_slots, point.clients)


def _service(model: Model, point: Point) -> float:
    return model.service_ms(point.gradient_mb, point.num_slots)
