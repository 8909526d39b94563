"""Curves of bounded size, for progress objects."""

import math
from typing import Final

MAX_POINTS: Final = 200
Point = tuple[int, float, float]
"""Step, seconds, value."""


class Series:
    """Curves by name. A long one is thinned by dropping every other point, so its size is bounded."""

    def __init__(self) -> None:
        self._points: dict[str, list[Point]] = {}
        self._strides: dict[str, int] = {}
        self._offered: dict[str, int] = {}

    @property
    def curves(self) -> dict[str, tuple[Point, ...]]:
        """The curves so far."""
        return {name: tuple(points) for name, points in self._points.items()}

    def record(self, name: str, step: int, seconds: float, value: float) -> None:
        """Add a point, unless its value is not finite, which no JSON can hold."""
        if not math.isfinite(value):
            return
        offered = self._offered[name] = self._offered.get(name, 0) + 1
        stride = self._strides.setdefault(name, 1)
        if (offered - 1) % stride:
            return
        points = self._points.setdefault(name, [])
        points.append((step, round(seconds, 3), round(value, 6)))
        if len(points) > MAX_POINTS:
            self._points[name] = points[::2]
            self._strides[name] = 2 * stride
