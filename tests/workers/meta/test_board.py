"""Each slot once, by whoever is there; what is lost or slow is given out again; what comes late counts for nothing."""

from collections.abc import Callable

import pytest

from workers.contracts.meta_config import MetaConfig
from workers.meta.board import Board, Judgement, Patience, Slot

PATIENCE = Patience(slow_factor=3.0, slow_s=2.0, hung_factor=10.0, hung_s=60.0, first_s=300.0, max_losses=5)
ASYNCHRONOUS = {"mode": "asynchronous", "max_staleness": 2}


@pytest.fixture
def board(config: MetaConfig) -> Callable[..., Board]:
    """Makes a board with workers a, b, ... that have joined."""

    def make(workers: str, *, version: int = 0, num_slots: int = 3, **changes: object) -> Board:
        changed = config.model_copy(update={"num_slots": num_slots, **changes})
        made = Board(changed, PATIENCE, version=version)
        for worker in workers:
            made.joined(worker)
        return made

    return make


def compute(board: Board, worker: str, now_s: float = 0.0, *, seconds: float = 1.0) -> Slot:
    """Have a worker compute its next slot."""
    slot = board.next_item(worker, now_s)
    assert isinstance(slot, Slot)
    assert board.finished(worker, slot, now_s + seconds)
    return slot


def judgements(subject: str, number: int) -> list[Judgement]:
    return [Judgement(subject, task) for task in range(number)]


def test_the_slots_of_a_step_are_given_out_in_order_each_once(board: Callable[..., Board]) -> None:
    b = board("abcd")
    assert [b.next_item(worker, 0.0) for worker in "abcd"] == [Slot(0, 0), Slot(0, 1), Slot(0, 2), None]
    assert b.holds("b") == Slot(0, 1)
    assert b.holds("d") is None


def test_the_next_step_begins_once_the_prior_has_moved_and_not_before(board: Callable[..., Board]) -> None:
    b = board("a")
    assert [compute(b, "a") for _ in range(3)] == [Slot(0, 0), Slot(0, 1), Slot(0, 2)]
    assert b.next_item("a", 1.0) is None
    b.advanced(1)
    assert b.next_item("a", 1.0) == Slot(1, 0)


def test_nothing_is_given_out_once_all_steps_are_taken_or_while_nothing_is_to_be_learned(
    board: Callable[..., Board], config: MetaConfig
) -> None:
    b = board("a", version=config.num_steps - 1)
    assert not b.learned
    assert b.next_item("a", 0.0, learn=False) is None
    b.advanced(config.num_steps)
    assert b.learned
    assert b.next_item("a", 0.0) is None


@pytest.mark.parametrize("lost", [True, False])
def test_the_slot_of_a_worker_that_is_gone_is_open_again(board: Callable[..., Board], lost: bool) -> None:
    b = board("ab")
    b.next_item("a", 0.0)
    assert b.left("a", lost=lost) == int(lost)
    assert b.workers == ("b",)
    assert b.next_item("b", 0.0) == Slot(0, 0)


def test_a_worker_that_never_joined_leaves_without_a_trace(board: Callable[..., Board]) -> None:
    b = board("a")
    assert b.left("ghost", lost=True) == 0
    assert b.workers == ("a",)


def test_a_lost_worker_whose_slot_another_has_finished_opens_nothing(board: Callable[..., Board]) -> None:
    b = board("ab", num_slots=2)
    compute(b, "b", seconds=1.0)
    slow = b.next_item("a", 0.0)
    assert b.next_item("b", 10.0) == slow
    assert b.finished("b", slow, 11.0)
    b.left("a", lost=True)
    assert b.next_item("b", 12.0) is None


def test_a_slow_slot_goes_to_an_idle_worker_too_and_the_first_result_counts(board: Callable[..., Board]) -> None:
    b = board("abc", num_slots=2)
    compute(b, "b", seconds=1.0)
    slow = b.next_item("a", 0.0)
    assert b.next_item("b", 2.9) is None, "three times the median has not passed"
    assert b.next_item("b", 3.1) == slow
    assert b.next_item("c", 9.0) is None, "two are enough"
    assert b.num_backups == 1
    assert b.finished("b", slow, 4.0)
    assert not b.finished("a", slow, 5.0)
    assert b.holds("a") is None


def test_before_anything_was_measured_only_first_s_makes_a_slot_slow(board: Callable[..., Board]) -> None:
    b = board("ab", num_slots=1)
    slow = b.next_item("a", 0.0)
    assert b.next_item("b", PATIENCE.first_s) is None
    assert b.next_item("b", PATIENCE.first_s + 0.1) == slow


def test_an_open_slot_comes_before_a_slow_one(board: Callable[..., Board]) -> None:
    b = board("ab", num_slots=3)
    compute(b, "b", seconds=1.0)
    b.next_item("a", 0.0)
    assert b.next_item("b", 50.0) == Slot(0, 2)
    assert b.num_backups == 0


def test_a_result_of_a_step_that_is_over_counts_for_nothing(board: Callable[..., Board]) -> None:
    b = board("ab", num_slots=2)
    compute(b, "b", seconds=1.0)
    late = b.next_item("a", 0.0)
    assert b.next_item("b", 10.0) == late
    assert b.finished("b", late, 11.0)
    b.advanced(1)
    assert not b.finished("a", late, 12.0)
    assert b.next_item("a", 13.0) == Slot(1, 0)


def test_a_result_that_comes_twice_counts_once(board: Callable[..., Board]) -> None:
    b = board("a")
    slot = compute(b, "a")
    assert not b.finished("a", slot, 2.0)


def test_after_rewinding_the_same_slots_are_given_out_again(board: Callable[..., Board]) -> None:
    b = board("a", version=4)
    early = compute(b, "a")
    b.advanced(5)
    later = b.next_item("a", 0.0)
    b.rewound(4)
    assert not b.finished("a", later, 1.0)
    assert b.next_item("a", 1.0) == early


def test_a_gradient_lost_on_its_way_is_computed_again(board: Callable[..., Board]) -> None:
    b = board("a")
    slot = compute(b, "a")
    b.reopen(slot)
    assert compute(b, "a") == slot


def test_synchronous_judgements_come_after_slots_and_fill_the_time_before_the_next_step(
    board: Callable[..., Board],
) -> None:
    b = board("ab", num_slots=1)
    b.ask(judgements("step 0", 2))
    assert not b.errands_done
    assert b.next_item("a", 0.0) == Slot(0, 0)
    assert b.next_item("b", 0.0) == Judgement("step 0", 0)
    assert b.finished("b", Judgement("step 0", 0), 1.0)
    assert b.next_item("b", 1.0) == Judgement("step 0", 1)
    assert b.finished("b", Judgement("step 0", 1), 2.0)
    assert b.errands_done


def test_asynchronous_judgements_come_first_since_slots_never_run_out(board: Callable[..., Board]) -> None:
    b = board("ab", **ASYNCHRONOUS)
    b.ask(judgements("step 0", 1))
    assert b.next_item("a", 0.0) == Judgement("step 0", 0)
    assert b.next_item("b", 0.0) == Slot(0, 0)


def test_a_judgement_of_a_lost_worker_is_given_out_again_and_counts_once(board: Callable[..., Board]) -> None:
    b = board("ab")
    b.ask(judgements("p", 1))
    item = b.next_item("a", 0.0, learn=False)
    assert b.left("a", lost=True) == 1
    assert b.next_item("b", 0.0, learn=False) == item
    assert b.finished("b", item, 1.0)
    assert not b.finished("b", item, 1.0)


def test_a_worker_hangs_by_the_median_and_never_before_hung_s(board: Callable[..., Board]) -> None:
    quick, long = board("ab"), board("ab")
    compute(quick, "b", seconds=1.0)
    compute(long, "b", seconds=20.0)
    for b in (quick, long):
        b.next_item("a", 0.0)
    assert quick.hung(60.0) == ()
    assert quick.hung(60.1) == ("a",)
    assert long.hung(200.0) == ()
    assert long.hung(200.1) == ("a",)


def test_each_part_of_a_run_and_judging_have_a_pace_of_their_own(
    board: Callable[..., Board], config: MetaConfig
) -> None:
    b = board("ab", version=config.joint_steps - 1, num_slots=1)
    compute(b, "a", seconds=1.0)
    b.advanced(config.joint_steps)
    b.ask(judgements("p", 1))
    assert b.next_item("a", 0.0) == Slot(config.joint_steps, 0)
    assert b.next_item("b", 0.0) == Judgement("p", 0)
    assert b.hung(PATIENCE.first_s) == ()
    assert b.hung(PATIENCE.first_s + 1) == ("a", "b")


def test_what_a_slot_costs_is_counted_until_it_is_done(board: Callable[..., Board]) -> None:
    b = board("abcd", num_slots=2)
    for count, worker in enumerate("abc", start=1):
        b.next_item(worker, 0.0)
        assert b.left(worker, lost=True) == count
    poison = compute(b, "d")
    b.reopen(poison)
    b.joined("e")
    assert b.next_item("e", 0.0) == poison
    assert b.left("e", lost=True) == 1


def test_an_asynchronous_slot_that_ends_its_workers_is_found_out_while_others_go_on(
    board: Callable[..., Board],
) -> None:
    b = board("z", num_slots=1, **ASYNCHRONOUS, warmup_steps=0, joint_steps=0, num_steps=100)
    for count, worker in enumerate("abcde", start=1):
        b.joined(worker)
        assert b.next_item(worker, 0.0) == Slot(0, 0)
        compute(b, "z")
        b.advanced(count)
        losses = b.left(worker, lost=True)
    assert losses == PATIENCE.max_losses


def test_a_slot_whose_data_a_worker_draws_is_kept_for_it_as_long_as_there_are_others(
    board: Callable[..., Board],
) -> None:
    b = board("ab", num_slots=5)
    assert b.next_item("a", 0.0) == Slot(0, 0)
    assert b.hint("a") == Slot(0, 1)
    assert b.next_item("b", 0.0) == Slot(0, 2)
    assert b.hint("b") == Slot(0, 3)
    assert b.finished("b", Slot(0, 2), 1.0)
    assert b.next_item("b", 1.0) == Slot(0, 3)
    assert b.hint("b") == Slot(0, 4)
    assert b.finished("b", Slot(0, 3), 2.0)
    assert b.next_item("b", 2.0) == Slot(0, 4)
    assert b.hint("b") == Slot(1, 0), "of the next step"
    assert b.finished("b", Slot(0, 4), 3.0)
    assert b.next_item("b", 3.0) == Slot(0, 1), "nothing else is left"
    assert b.hint("a") == Slot(1, 1)
    b.left("b", lost=True)
    assert b.hint("a") == Slot(0, 1)


def test_no_hint_goes_beyond_the_last_step(board: Callable[..., Board], config: MetaConfig) -> None:
    for mode in ({}, ASYNCHRONOUS):
        b = board("a", version=config.num_steps - 1, num_slots=2, **mode)
        b.next_item("a", 0.0)
        assert b.hint("a") == Slot(config.num_steps - 1, 1)
        b.finished("a", Slot(config.num_steps - 1, 0), 1.0)
        b.next_item("a", 1.0)
        assert b.hint("a") is None


def test_an_asynchronous_hint_leaves_one_slot_to_each_of_the_others(board: Callable[..., Board]) -> None:
    b = board("abc", num_slots=2, **ASYNCHRONOUS)
    assert b.next_item("a", 0.0) == Slot(0, 0)
    assert b.hint("a") == Slot(1, 1)


def test_asynchronous_slots_never_repeat_and_do_not_wait_for_the_prior(board: Callable[..., Board]) -> None:
    b = board("abc", num_slots=2, **ASYNCHRONOUS)
    given = [b.next_item(worker, 0.0) for worker in "abc"]
    assert given == [Slot(0, 0), Slot(0, 1), Slot(1, 0)]
    assert b.finished("a", Slot(0, 0), 1.0)
    assert b.next_item("a", 1.0) == Slot(1, 1)


def test_an_asynchronous_slot_that_was_lost_is_given_out_again_once(board: Callable[..., Board]) -> None:
    b = board("ab", num_slots=2, **ASYNCHRONOUS)
    lost = b.next_item("a", 0.0)
    b.left("a", lost=True)
    b.reopen(lost)
    assert [compute(b, "b") for _ in range(3)] == [lost, Slot(0, 1), Slot(1, 0)]


def test_an_asynchronous_slot_whose_turn_is_still_to_come_is_not_given_out_before(
    board: Callable[..., Board],
) -> None:
    b = board("a", version=3, num_slots=1, **ASYNCHRONOUS, num_steps=100, joint_steps=99, warmup_steps=0)
    held = b.next_item("a", 0.0)
    assert held == Slot(3, 0)
    b.rewound(1)
    assert b.finished("a", held, 1.0)
    b.reopen(held)  # too old: it was computed from a prior that is lost
    assert [compute(b, "a") for _ in range(4)] == [Slot(1, 0), Slot(2, 0), Slot(3, 0), Slot(4, 0)]


def test_asynchronous_slots_of_the_next_part_wait_until_this_part_is_over(
    board: Callable[..., Board], config: MetaConfig
) -> None:
    last = config.joint_steps - 1
    b = board("ab", version=last, num_slots=1, **ASYNCHRONOUS)
    assert b.next_item("a", 0.0) == Slot(last, 0)
    assert b.next_item("b", 0.0) is None
    b.left("a", lost=True)
    assert compute(b, "b") == Slot(last, 0)
    b.advanced(last + 1)
    assert b.next_item("b", 0.0) == Slot(last + 1, 0)


def test_what_asynchronous_learning_remembers_stays_bounded(board: Callable[..., Board]) -> None:
    b = board("a", num_slots=2, **ASYNCHRONOUS, num_steps=1000, joint_steps=1000, warmup_steps=0)
    for version in range(1, 500):
        compute(b, "a")
        compute(b, "a")
        b.advanced(version)
    assert len(b._computed) <= 2 * (ASYNCHRONOUS["max_staleness"] + 2)


def test_a_slot_given_ahead_is_begun_when_the_one_before_it_is_done(board: Callable[..., Board]) -> None:
    b = board("ab", num_slots=6)
    b.next_item("a", 0.0)
    b.next_item("b", 0.0)
    assert b.queue_ahead("ab") == [("a", Slot(0, 2)), ("b", Slot(0, 3))]
    assert b.queue_ahead("ab") == [], "one at most"
    assert b.finished("a", Slot(0, 0), 1.0)
    assert b.holds("a") == Slot(0, 2)
    assert b.queue_ahead("ab") == [("a", Slot(0, 4))]
    assert b.hung(60.5) == ("b",), "what waits has its time from when it is begun"


def test_at_the_end_of_a_step_nothing_is_given_ahead_that_another_comes_to_first(
    board: Callable[..., Board],
) -> None:
    b = board("ab", num_slots=14)
    quick, slow = b.next_item("a", 0.0), b.next_item("b", 0.0)
    assert b.finished("a", quick, 1.0)
    assert b.finished("b", slow, 4.0)
    given = dict.fromkeys("ab", 0)
    for worker in "ab":
        b.next_item(worker, 4.0)
    now_s = 4.0
    # Ten are left: while b computes one, a computes four, so b gets none of the last four ahead.
    while queued := b.queue_ahead("ab"):
        for worker, _ in queued:
            given[worker] += 1
        now_s += 1.0
        assert b.finished("a", b.holds("a"), now_s)
    assert given == {"a": 9, "b": 1}


def test_nothing_is_given_ahead_behind_a_judgement_or_asynchronously_or_to_who_holds_nothing(
    board: Callable[..., Board],
) -> None:
    b = board("ab", num_slots=6)
    b.ask(judgements("p", 1))
    b.next_item("a", 0.0, learn=False)
    assert b.queue_ahead("ab") == []
    free = board("a", num_slots=6, **ASYNCHRONOUS)
    free.next_item("a", 0.0)
    assert free.queue_ahead("a") == []


def test_a_lost_worker_opens_what_waited_behind_its_slot_too_and_only_that_slot_has_cost_a_worker(
    board: Callable[..., Board],
) -> None:
    b = board("a", num_slots=4)
    b.next_item("a", 0.0)
    b.queue_ahead("a")
    assert b.left("a", lost=True) == 1
    b.joined("b")
    assert [compute(b, "b") for _ in range(4)] == [Slot(0, number) for number in range(4)]
    b.reopen(Slot(0, 1))
    b.next_item("b", 0.0)
    assert b.left("b", lost=True) == 1


def test_an_idle_worker_takes_what_waits_behind_a_slow_slot_as_well(board: Callable[..., Board]) -> None:
    b = board("ab", num_slots=5)
    compute(b, "b")
    slow = b.next_item("a", 0.0)
    ((_, waiting),) = b.queue_ahead("a")
    for _ in range(2):
        compute(b, "b", 0.0)
    assert b.next_item("b", 3.0) is None
    assert b.next_item("b", 3.1) == slow
    assert b.finished("b", slow, 4.0)
    assert b.next_item("b", 4.0) == waiting
    assert b.finished("b", waiting, 5.0)
    b.advanced(1)
    assert b.next_item("b", 90.0) == Slot(1, 0), "no backup of a step that is over"
    assert b.num_backups == 2
