"""What the benchmark of the search step makes of its measurements, and that all ways take steps."""

import dataclasses
import json
from collections.abc import Mapping

import pytest
import torch

from benchmarks.search import step, step_ranking
from benchmarks.search.step_arms import Job, Measured, Stopwatch, Way, macro_of, noise_data, search


def turn(*, images: int, wall_s: float) -> Measured:
    return Measured(
        num_steps=1,
        num_images=images,
        wall_s=wall_s,
        cpu_s=2 * wall_s,
        idle_bytes=1_000_000,
        peak_bytes=2_000_000,
        peak_device_bytes=0,
    )


def rounds(speeds: Mapping[str, tuple[float, ...]]) -> list[dict[str, Measured]]:
    """Rounds in which each way has the given images a second."""
    number = len(next(iter(speeds.values())))
    return [{name: turn(images=100, wall_s=100 / values[i]) for name, values in speeds.items()} for i in range(number)]


def test_a_ratio_compares_turns_of_the_same_round() -> None:
    # The machine was slow in the second round: both ways were.
    found = step.ratio(rounds({"a": (1.0, 0.1, 1.0), "b": (20.0, 2.0, 30.0)}), "a", "b")

    assert found == {"median": 20.0, "least": 20.0, "largest": 30.0}


def test_layout_sampling_and_rest_multiply_to_the_whole() -> None:
    speeds = {name: (number + 1.0,) for number, name in enumerate(step.WAYS)}

    found = step.summarize(rounds(speeds))

    parts = [found["split"][part]["median"] for part in ("layout", "sampling", "rest")]
    assert parts[0] * parts[1] * parts[2] == pytest.approx(found["ratio_to_classic"]["median"], rel=0.01)


def test_a_job_survives_its_way_to_another_process() -> None:
    job = Job(
        space="darts",
        macro=macro_of("darts", 16, num_cells=3),
        batch=8,
        way=Way(product=True),
        device="cpu",
        threads=1,
        least_s=1.0,
    )

    assert step.job_of(json.loads(json.dumps(dataclasses.asdict(job)))) == job


@pytest.mark.parametrize("name", list(step.WAYS))
def test_every_way_moves_the_weights(name) -> None:
    macro = macro_of("darts", 8, num_channels=2, num_cells=3)

    class TwoSteps:
        def begin(self, supernet) -> None:
            self.supernet, self.num_steps = supernet, 0
            self.before = torch.cat([p.detach().flatten() for p in supernet.parameters()])

        def lap(self) -> bool:
            self.num_steps += 1
            return self.num_steps < 2

    observer = TwoSteps()
    data = noise_data(8, torch.device("cpu"))
    search("darts", macro, 4, step.WAYS[name], data, seed=0, observer=observer)

    after = torch.cat([p.detach().flatten() for p in observer.supernet.parameters()])
    assert observer.num_steps == 2
    # All ops move where all run, a few where one is drawn for each decision.
    share = float((after != observer.before).float().mean())
    assert (share > 0.9) == (not step.WAYS[name].sampled and not step.WAYS[name].product)
    assert share > 0.02


def test_the_first_step_is_not_timed() -> None:
    watch = Stopwatch(0.0, torch.device("cpu"))

    assert watch.lap()
    assert watch.num_steps == 0
    assert not watch.lap()
    assert watch.num_steps == 1
    assert watch.wall_s > 0


def test_the_time_to_a_tau_is_that_of_the_slow_ways_end() -> None:
    slow = [[(10.0, 0.0), (20.0, 0.1)], [(10.0, 0.2), (20.0, 0.3)]]
    fast = [[(5.0, 0.15), (20.0, 0.4)], [(5.0, 0.25), (20.0, 0.4)]]

    found = step_ranking.compare(slow, fast)

    assert found["tau"] == 0.2
    assert found["seconds"] == {"slow": 20.0, "fast": 5.0}
    assert found["ratio"] == 4.0
    assert found["ratios"] == [4.0, 1.0]


def test_a_way_that_never_gets_there_has_no_ratio() -> None:
    found = step_ranking.compare([[(10.0, 0.5)]], [[(10.0, 0.4)]])

    assert found["seconds"] == {"slow": 10.0, "fast": None}
    assert found["ratio"] is None
