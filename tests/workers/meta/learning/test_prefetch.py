import threading
from collections.abc import Callable, Iterator

import pytest

from workers.meta.learning.prefetch import Prefetcher

LIMIT_S = 20.0


class Source:
    """Draws items, each as soon as it is let go; remembers which, and in which thread."""

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self.threads: dict[int, threading.Thread] = {}
        self.begun = {key: threading.Event() for key in range(4)}
        self.let_go = {key: threading.Event() for key in range(4)}

    def draw(self, key: int) -> str:
        self.threads[key] = threading.current_thread()
        self.begun[key].set()
        assert self.let_go[key].wait(LIMIT_S)
        self.drawn.append(key)
        return f"item {key}"


class Clock:
    """Stands still but where told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def prefetcher(source: Source, clock: Clock) -> Iterator[Prefetcher[int, str]]:
    made = Prefetcher(source.draw, clock)
    yield made
    for event in source.let_go.values():
        event.set()
    made.close()


def test_what_was_hinted_is_drawn_in_another_thread_before_it_is_asked_for(
    prefetcher: Prefetcher[int, str], source: Source
) -> None:
    prefetcher.hint(1)
    assert source.begun[1].wait(LIMIT_S)
    assert source.threads[1] is not threading.current_thread()
    source.let_go[1].set()
    assert prefetcher.take(1) == "item 1"
    assert source.drawn == [1]
    assert prefetcher.waited_s == 0


def test_what_was_never_hinted_is_drawn_at_once_by_the_caller(prefetcher: Prefetcher[int, str], source: Source) -> None:
    source.let_go[2].set()
    assert prefetcher.take(2) == "item 2"
    assert source.threads[2] is threading.current_thread()


def test_an_item_is_handed_out_once(prefetcher: Prefetcher[int, str], source: Source) -> None:
    source.let_go[1].set()
    prefetcher.hint(1)
    prefetcher.hint(1)
    assert [prefetcher.take(1), prefetcher.take(1)] == ["item 1", "item 1"]
    assert source.drawn == [1, 1]


def test_a_later_hint_replaces_an_item_that_nobody_took(prefetcher: Prefetcher[int, str], source: Source) -> None:
    prefetcher.hint(0)
    assert source.begun[0].wait(LIMIT_S)  # being drawn: cannot be stopped, only forgotten
    prefetcher.hint(1)
    prefetcher.hint(2)
    for event in source.let_go.values():
        event.set()
    assert prefetcher.take(2) == "item 2"
    assert source.drawn == [0, 2]
    assert prefetcher.take(0) == "item 0"
    assert source.drawn == [0, 2, 0]


def test_an_item_ahead_survives_while_another_is_taken(prefetcher: Prefetcher[int, str], source: Source) -> None:
    for event in source.let_go.values():
        event.set()
    prefetcher.hint(1)
    assert prefetcher.take(3) == "item 3"
    assert prefetcher.take(1) == "item 1"
    assert source.drawn.count(1) == 1


def test_waiting_is_counted_for_items_in_the_making_and_for_those_never_hinted(clock: Clock) -> None:
    let_go = threading.Event()

    def draw(key: str) -> str:
        assert let_go.wait(LIMIT_S)
        clock.now_s += {"hinted": 2.0, "not hinted": 3.0}[key]
        return key

    # The clock moves while the caller waits: the item is let go by the caller's own first look at the clock.
    def letting_go() -> float:
        now_s = clock()
        let_go.set()
        return now_s

    prefetcher = Prefetcher(draw, letting_go)
    prefetcher.hint("hinted")
    prefetcher.take("hinted")
    assert prefetcher.waited_s == 2
    prefetcher.take("not hinted")
    assert prefetcher.waited_s == 5
    prefetcher.close()


@pytest.mark.parametrize("hinted", [True, False])
def test_an_error_reaches_whoever_asked_and_the_next_item_is_drawn_all_the_same(hinted: bool) -> None:
    class NoDataError(Exception):
        pass

    def draw(key: int) -> int:
        if key == 1:
            raise NoDataError
        return key

    prefetcher = Prefetcher(draw)
    take: Callable[[int], int] = prefetcher.take
    if hinted:
        prefetcher.hint(1)
    with pytest.raises(NoDataError):
        take(1)
    prefetcher.hint(2)
    assert take(2) == 2
    prefetcher.close()


def test_closing_ends_the_thread(source: Source) -> None:
    prefetcher = Prefetcher(source.draw)
    prefetcher.hint(0)
    assert source.begun[0].wait(LIMIT_S)
    source.let_go[0].set()
    prefetcher.close()
    assert not source.threads[0].is_alive()
