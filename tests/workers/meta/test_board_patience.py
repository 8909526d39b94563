"""How long what is given out may take: trials have a pace of their own, and what cost workers may take longer."""

import pytest

from workers.contracts.meta_config import MetaConfig
from workers.meta.board import Board, Judgement, Patience, Slot, Tryout

PATIENCE = Patience(slow_s=2.0, hung_s=60.0, first_s=300.0, first_trial_s=3600.0)


@pytest.fixture
def board(config: MetaConfig) -> Board:
    """With workers a and b."""
    made = Board(config, PATIENCE)
    for worker in "ab":
        made.joined(worker)
    return made


def test_a_trial_of_a_lost_worker_is_given_out_again_and_counts_once(board: Board) -> None:
    board.ask([Tryout(0, 0), Tryout(0, 1)])
    assert board.next_item("a", 0.0, learn=False) == Tryout(0, 0)
    assert board.left("a", lost=True) == 1
    assert board.next_item("b", 0.0, learn=False) == Tryout(0, 0)
    assert board.finished("b", Tryout(0, 0), 1.0)
    assert not board.finished("b", Tryout(0, 0), 1.0)
    assert not board.errands_done
    assert board.next_item("b", 1.0, learn=False) == Tryout(0, 1)


def test_first_trials_may_take_longer_than_first_judgements_or_slots(board: Board) -> None:
    board.ask([Tryout(0, 0), Judgement("p", 0)])
    for worker in "ab":
        board.next_item(worker, 0.0, learn=False)
    assert board.hung(PATIENCE.first_s + 1) == ("b",)
    assert board.hung(PATIENCE.first_trial_s) == ("b",)
    assert board.hung(PATIENCE.first_trial_s + 1) == ("a", "b")


def test_a_slow_trial_goes_to_an_idle_worker_too_by_the_median_of_trials(board: Board) -> None:
    board.ask([Tryout(0, 0), Tryout(0, 1)])
    board.next_item("a", 0.0, learn=False)
    assert board.next_item("b", 0.0, learn=False) == Tryout(0, 1)
    assert board.finished("b", Tryout(0, 1), 10.0)
    assert board.next_item("b", 30.0, learn=False) is None
    assert board.next_item("b", 30.1, learn=False) == Tryout(0, 0)


@pytest.mark.parametrize("known", [True, False])
def test_an_item_that_has_cost_workers_may_take_twice_as_long_with_each(board: Board, known: bool) -> None:
    may_take_s = PATIENCE.first_s
    if known:
        board.next_item("b", 0.0)
        board.finished("b", Slot(0, 0), 20.0)
        may_take_s = 200.0
    for times in (1, 2, 4):
        item = board.next_item("a", 0.0)
        assert board.hung(may_take_s * times) == ()
        assert board.hung(may_take_s * times + 1) == ("a",)
        board.left("a", lost=True)
        board.joined("a")
    assert board.next_item("a", 0.0) == item
    assert board.finished("a", item, 1.0)
