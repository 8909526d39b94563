import pytest

from workers.contracts.meta_config import MetaConfig
from workers.meta.board import Board, Patience
from workers.meta.gradient_worker import WorkerInfo
from workers.meta.roster import Roster

INFO = WorkerInfo(host="node-7", pid=42, device="CPU", load_s=0.1, class_names=("a", "b"), can_judge=False)


@pytest.fixture
def board(config: MetaConfig) -> Board:
    return Board(config, Patience())


def joined(roster: Roster, board: Board, now_s: float = 0.0) -> str:
    worker = roster.add(now_s)
    roster.joined(worker, INFO, "actor-1")
    board.joined(worker)
    return worker


def test_a_name_is_used_once(board: Board) -> None:
    roster = Roster()
    first = roster.add(0.0)
    roster.remove(first)
    assert roster.add(0.0) != first
    assert not roster.knows(first)


def test_a_worker_is_starting_then_idle_then_busy(board: Board) -> None:
    roster = Roster()
    starting, worker = roster.add(0.0), joined(roster, board)
    assert roster.states(board) == [(starting, "starting"), (worker, "idle")]
    assert roster.available(board) == (worker,)
    board.next_item(worker, 0.0)
    assert roster.states(board) == [(starting, "starting"), (worker, "busy")]
    assert roster.available(board) == ()


def test_a_worker_that_is_to_go_gets_no_work_and_is_still_shown(board: Board) -> None:
    roster = Roster()
    worker = joined(roster, board)
    roster.leaving(worker, 5.0)
    assert roster.is_leaving(worker)
    assert roster.staying() == roster.available(board) == ()
    assert [view.id for view in roster.views(board)] == [worker]


def test_those_who_start_or_leave_for_too_long_are_overdue(board: Board) -> None:
    roster = Roster()
    starting, up, leaving = roster.add(0.0), joined(roster, board), joined(roster, board)
    roster.leaving(leaving, 100.0)
    assert roster.overdue(50.0, start_s=50.0, drain_s=10.0) == ()
    assert roster.overdue(51.0, start_s=50.0, drain_s=10.0) == (starting,)
    assert roster.overdue(111.0, start_s=500.0, drain_s=10.0) == (leaving,)
    assert up in roster.staying()


def test_people_see_where_a_worker_is_and_what_it_does(board: Board) -> None:
    roster = Roster()
    worker = joined(roster, board)
    board.next_item(worker, 0.0)
    roster.done(worker)
    (view,) = roster.views(board)
    assert (view.node, view.pid, view.device, view.actor_id) == ("node-7", 42, "CPU", "actor-1")
    assert (view.state, view.doing, view.num_done) == ("busy", "slot 0 of step 0", 1)
    assert roster.host(worker) == "node-7"
    assert roster.host("ghost") == "an unknown node"
