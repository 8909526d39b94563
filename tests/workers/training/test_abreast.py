"""Work side by side, within the seconds of a budget."""

import threading

import pytest
import torch

from workers.training.abreast import as_many_as_fit
from workers.training.budget import Budget


class Clock:
    """Stands still until work moves it."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def ten_seconds_each(total_s: float, **options: object) -> list[int]:
    clock = Clock()

    def work(item: int) -> int:
        clock.now_s += 10.0
        return item

    found = list(as_many_as_fit(work, range(100), Budget(total_s, clock), at_once=1, **options))
    assert all(item == result for item, result in found)
    return [item for item, _ in found]


@pytest.mark.parametrize(
    ("total_s", "least_share", "number"),
    [(0.0, 0.0, 1), (35.0, 0.0, 4), (35.0, 1.0, 3), (36.0, 0.5, 4), (35.0, 0.6, 3), (1e9, 1.0, 100)],
)
def test_another_is_begun_while_its_share_of_the_seconds_is_left(total_s, least_share, number) -> None:
    assert ten_seconds_each(total_s, least_share=least_share) == list(range(number))


def test_as_many_as_asked_run_at_once_each_on_one_thread_of_torch() -> None:
    torch.set_num_threads(2)
    meet = threading.Barrier(3, timeout=60)

    def work(_item: int) -> int:
        meet.wait()  # ends only where three come together
        return torch.get_num_threads()

    found = list(as_many_as_fit(work, range(6), Budget(1e9), at_once=3, least_share=0.0))
    assert sorted(item for item, _ in found) == list(range(6))
    assert {threads for _, threads in found} == {1}
    assert torch.get_num_threads() == 2


def test_an_error_ends_the_budget_of_what_runs_beside_it() -> None:
    budget, has_ended = Budget(1e9), threading.Event()

    def work(item: int) -> None:
        if item == 0:
            raise ZeroDivisionError
        for _ in range(6000):
            if budget.remaining_s <= 0:
                has_ended.set()
                return
            has_ended.wait(0.01)

    with pytest.raises(ZeroDivisionError):
        list(as_many_as_fit(work, range(2), budget, at_once=2, least_share=0.0))
    assert has_ended.is_set()
