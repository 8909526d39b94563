import threading
import time

import pytest
from sqlalchemy.exc import OperationalError

from service.datasets.loop import CheckLoop
from service.records.datasets import DatasetRecords, new_dataset_id
from service.records.lease import CHECKER, Lease
from service.records.model import Arrival

TIMEOUT_S = 20.0


class Scripted:
    """A checker whose rounds are given, and which has trouble with some of them."""

    def __init__(self, rounds, trouble):
        self._rounds, self._trouble = list(rounds), trouble
        self.settled = []
        self.enough = threading.Event()

    def stop(self):
        pass

    def due(self):
        if not self._rounds:
            self.enough.set()
            return ()
        return self._rounds.pop(0)

    def settle(self, entry):
        self.settled.append(entry.name)
        if entry.name in self._trouble:
            raise self._trouble[entry.name]


@pytest.fixture
def entry(database):
    """Returns a function that has a dataset of that name arrive."""
    datasets = DatasetRecords(database)
    return lambda name: datasets.expect(
        new_dataset_id(), name=name, num_bytes=9, arrival=Arrival(), source="s3://bucket/x.zip", owner="ann"
    )


@pytest.fixture
def new_loop(database):
    """Returns a function that starts the loop of a checker; it is ended after the test."""
    loops = []

    def start(checker, interval_s=60.0):
        lease = Lease(database, name=CHECKER, holder="test", ttl_s=60.0)
        loops.append(CheckLoop(checker, lease, interval_s=interval_s))
        loops[-1].start()
        return loops[-1]

    yield start
    for loop in loops:
        loop.stop()
        loop.join()


def test_a_fault_of_the_service_is_told_and_ends_neither_the_thread_nor_the_round(entry, new_loop, caplog):
    bad, good, later = entry("bad"), entry("good"), entry("later")
    checker = Scripted([(bad, good), (later,)], {"bad": KeyError("a bug")})
    loop = new_loop(checker)
    assert checker.enough.wait(TIMEOUT_S)
    assert checker.settled == ["bad", "good", "later"]  # each at once when the one before has ended
    assert loop.alive
    (told,) = caplog.records
    assert bad.id in told.getMessage()
    assert "a bug" in str(told.exc_info[1])


def test_what_another_service_may_be_checking_is_left_alone(database, entry, new_loop):
    other = Lease(database, name=CHECKER, holder="other", ttl_s=60.0)
    assert other.acquire()
    checker = Scripted([(entry("one"),)], {})
    loop = new_loop(checker)
    loop.wake()
    assert not checker.enough.wait(0.2)
    assert checker.settled == []
    other.release()
    deadline = time.monotonic() + TIMEOUT_S
    while not checker.enough.wait(0.05):
        assert time.monotonic() < deadline
        loop.wake()
    assert checker.settled == ["one"]


def test_what_was_left_of_a_round_when_the_lease_was_lost_is_looked_for_anew(database, entry, new_loop):
    other = Lease(database, name=CHECKER, holder="other", ttl_s=60.0)
    lost = threading.Event()

    class Loses(Scripted):
        def settle(self, one):
            super().settle(one)
            if one.name == "first":
                other.end_those_of("test")
                assert other.acquire()
                lost.set()

    checker = Loses([(entry("first"), entry("settled by the other")), (entry("third"),)], {})
    loop = new_loop(checker, interval_s=0.01)
    assert lost.wait(TIMEOUT_S)
    assert not checker.enough.wait(0.2)
    other.release()
    assert checker.enough.wait(TIMEOUT_S)
    assert checker.settled == ["first", "third"]
    assert loop.alive


def test_records_that_are_away_are_told_of_once_and_waited_for(entry, new_loop, caplog):
    away = OperationalError("SELECT 1", {}, Exception("away"))
    checker = Scripted([(entry("one"), entry("two"))], {"one": away})
    loop = new_loop(checker)
    deadline = time.monotonic() + TIMEOUT_S
    while not checker.enough.wait(0.05):
        assert time.monotonic() < deadline
        loop.wake()
    assert checker.settled == ["one", "two"]
    (told,) = caplog.records
    assert "the checker has to wait" in told.getMessage()
    assert told.exc_info is None
