"""Pieces of work side by side, each on one thread of torch: as many as the seconds allow.

Threads within a small network wait for each other more than they compute. Measured by hand, for 8 channels on images of
16 pixels: two of them make a step 1.1 times as fast; two such networks beside each other are trained 1.6 times as fast.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import torch

from workers.training.budget import Budget

Item = TypeVar("Item")
Result = TypeVar("Result")


def as_many_as_fit(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    budget: Budget,
    *,
    at_once: int,
    least_share: float,
) -> Generator[tuple[Item, Result], None, None]:
    """Yield items with what came of them, as they end.

    The first `at_once` are begun whatever the time; one more each time that one ends, while there is time. Where this
    is broken off, by an error or from outside, the budget ends, and with it the work that looks at it; whoever may
    leave the loop by an error closes this (`contextlib.closing`), or it is broken off only when it is forgotten.

    Args:
        work: What is done to an item; on a thread of its own.
        items: In the order in which they are begun.
        budget: Of the seconds.
        at_once: Side by side, at least 1.
        least_share: Of the mean seconds of an item so far, that must be left for another to be begun.
    """
    waiting, running, ended_s = iter(items), dict[Future[Result], Item](), list[float]()

    def timed(item: Item) -> Result:
        since_s = budget.elapsed_s
        result = work(item)
        ended_s.append(budget.elapsed_s - since_s)
        return result

    with _one_thread_each(), ThreadPoolExecutor(at_once, thread_name_prefix="abreast") as pool:
        try:
            running.update((pool.submit(timed, item), item) for item in islice(waiting, at_once))
            while running:
                done = wait(running, return_when=FIRST_COMPLETED).done
                # What failed comes last: what ended beside it is handed over.
                ended = sorted(done, key=lambda future: future.exception() is not None)
                results = [(running.pop(future), future) for future in ended]
                for _ in ended:
                    if budget.remaining_s > least_share * sum(ended_s) / len(ended_s):
                        running.update((pool.submit(timed, item), item) for item in islice(waiting, 1))
                for item, future in results:
                    yield item, future.result()
        except BaseException:
            budget.end()
            raise


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have threads that begin now compute by themselves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
