"""The poller and those who follow, without HTTP."""

import asyncio
import threading
from contextlib import ExitStack

import pytest

from service.errors import QuotaExceededError
from service.events.hub import Hub
from service.events.streams import StateTeller, adaptations, lines
from service.http.auth import LOCAL, Principal
from service.records.events import EventRecords
from service.records.keys import KeyRecords
from service.records.transitions import Change
from workers.contracts.errors import StoreError

TIMEOUT_S = 20.0
INTERVAL_S = 0.01


class CountedRecords(EventRecords):
    """Counts the looks, and how many works each was for."""

    def __init__(self, database):
        super().__init__(database)
        self.looks = []

    def standings(self, after):
        self.looks.append(len(after))
        return super().standings(after)


@pytest.fixture
def keys(database):
    return KeyRecords(database)


@pytest.fixture
def looked(database):
    return CountedRecords(database)


@pytest.fixture
def hub_with(looked, keys):
    return lambda **options: Hub(looked, keys, **{"interval_s": INTERVAL_S, **options})


@pytest.fixture
def hub(hub_with):
    return hub_with()


@pytest.fixture
def source(store):
    return adaptations(store)


@pytest.fixture
def running(records, add_adaptation):
    adaptation = add_adaptation()
    records.change(adaptation, Change(state="RUNNING"))
    return records.get(adaptation.id, owner="local")


@pytest.fixture
def end(records):
    """Returns a function that has an adaptation end."""
    return lambda one: records.change(records.get(one.id, owner="local"), Change(state="SUCCEEDED"))


def run(main):
    async def in_time():
        async with asyncio.timeout(TIMEOUT_S):
            return await main()

    return asyncio.run(in_time())


async def told(hub, source, work, *, after=0, caller=LOCAL, on_line=None, keepalive_s=3600.0):
    """The lines for one reader until the stream ends."""
    found = []
    with hub.follow(source, work.id, caller, after=after) as feed:
        async for line in lines(feed, StateTeller(after), keepalive_s=keepalive_s):
            found.append(line.decode())
            if on_line is not None:
                on_line(found)
    return found


def ids(found):
    return [line.split("id: ")[1].strip() for line in found if "id: " in line]


def test_a_hundred_who_follow_one_work_cost_one_look(hub, looked, source, store, running, job_of, end, monkeypatch):
    job_of(running.id).progress()
    reads, read = [], store.get_bytes

    def counted(key):
        reads.append(key)
        return read(key)

    monkeypatch.setattr(store, "get_bytes", counted)
    enough = threading.Event()

    def on_line(_):
        if len(looked.looks) >= 5 and not enough.is_set():
            enough.set()
            end(running)

    async def main():
        # Comments pass the time.
        readers = (told(hub, source, running, on_line=on_line, keepalive_s=INTERVAL_S) for _ in range(100))
        return await asyncio.gather(*readers)

    for found in run(main):
        assert ids(found) == ["1", "2", "3"]
        assert sum("event: progress" in line for line in found) == 1
    assert len(reads) <= len(looked.looks)
    assert set(looked.looks) == {1}
    assert hub.num_streams == 0


def test_many_works_are_looked_at_together(hub, looked, source, records, add_adaptation):
    works = [add_adaptation() for _ in range(10)]

    async def main():
        with ExitStack() as stack:
            feeds = [stack.enter_context(hub.follow(source, work.id, LOCAL)) for work in works]
            assert {len((await feed.news(TIMEOUT_S)).standing.events) for feed in feeds} == {1}
            assert looked.looks[0] == len(works)
            looked.looks.clear()
            for work in works:
                records.change(work, Change(state="CANCELLED"))
            for feed in feeds:
                while not (await feed.news(TIMEOUT_S)).standing.settled:
                    pass

    run(main)
    assert set(looked.looks) == {len(works)}


def test_who_comes_later_or_knows_less_misses_nothing(hub, source, running, end):
    async def main():
        with hub.follow(source, running.id, LOCAL, after=2) as knowing:
            assert (await knowing.news(TIMEOUT_S)).standing.events == ()
            late = await told(hub, source, running, on_line=lambda found: end(running) if len(found) == 2 else None)
            while not (snapshot := await knowing.news(TIMEOUT_S)).standing.settled:
                pass
            return late, list(StateTeller(2).tell(snapshot))

    late, knowing = run(main)
    assert (ids(late), ids(map(bytes.decode, knowing))) == (["1", "2", "3"], ["3"])


def test_progress_is_told_when_it_changes_and_without_a_number(hub, source, running, job_of, end):
    job = job_of(running.id)
    job.progress(fraction=0.1, updated_at=1.0)

    def on_line(found):
        if '"fraction":0.1' in found[-1]:
            job.progress(fraction=0.2, updated_at=2.0)
        elif '"fraction":0.2' in found[-1]:
            end(running)

    found = run(lambda: told(hub, source, running, on_line=on_line))
    progress = [line for line in found if "event: progress" in line]
    assert len(progress) == 2
    assert not ids(progress)
    assert ids(found) == ["1", "2", "3"]


def test_a_store_that_hangs_holds_up_nothing_else(
    hub, source, store, running, add_adaptation, records, end, monkeypatch
):
    hanging, released = threading.Event(), threading.Event()

    def hang(_):
        hanging.set()
        released.wait(TIMEOUT_S)
        raise StoreError("the store does not answer")

    monkeypatch.setattr(store, "get_bytes", hang)
    other = add_adaptation()

    def on_line(found):
        if hanging.is_set() and found[-1] == ": ping\n\n" and not records.get(running.id, owner="local").finished_at:
            records.change(other, Change(state="CANCELLED"))
            end(running)

    async def main():
        slow = told(hub, source, running, on_line=on_line, keepalive_s=INTERVAL_S)
        return await asyncio.gather(slow, told(hub, source, other))

    try:
        slow, quick = run(main)
    finally:
        released.set()
    assert ids(slow) == ["1", "2", "3"]
    assert ids(quick) == ["1", "2"]


def test_neither_a_store_nor_records_that_hang_hold_up_the_exit(
    hub, looked, source, store, running, job_of, monkeypatch
):
    job_of(running.id).progress()
    threads, read, ask = [], store.get_bytes, looked.standings

    def noted(call):
        def with_it(*arguments):
            threads.append(threading.current_thread())
            return call(*arguments)

        return with_it

    monkeypatch.setattr(store, "get_bytes", noted(read))
    monkeypatch.setattr(looked, "standings", noted(ask))

    def on_line(found):
        if "event: progress" in found[-1]:
            hub.close()

    run(lambda: told(hub, source, running, on_line=on_line))
    assert len(threads) >= 2
    assert all(thread.daemon for thread in threads)


def test_records_that_are_away_for_a_moment_break_no_stream(hub, looked, source, running, end, monkeypatch, caplog):
    from sqlalchemy.exc import OperationalError

    ask, failures = looked.standings, iter([True, True])

    def failing(after):
        if next(failures, False):
            raise OperationalError("SELECT", {}, Exception("gone"))
        return ask(after)

    monkeypatch.setattr(looked, "standings", failing)
    found = run(lambda: told(hub, source, running, on_line=lambda lines: end(running) if len(lines) == 2 else None))
    assert ids(found) == ["1", "2", "3"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_stream_ends_soon_after_its_key(hub_with, source, running, keys, how):
    key, _ = keys.create(owner="local", role="user", expires_days=0.0 if how == "expired" else None)
    staying, _ = keys.create(owner="local", role="user")
    callers = [Principal(owner="local", role="user", key_id=one.id) for one in (key, staying)]
    hub = hub_with(key_check_s=0.0)
    if how == "revoked":
        keys.revoke(key.id)

    async def main():
        stays = asyncio.create_task(told(hub, source, running, caller=callers[1]))
        ended = await told(hub, source, running, caller=callers[0])
        assert not stays.done()
        hub.close()
        return ended

    assert run(main)[-1].startswith(": the stream ends here")


def test_with_the_first_key_the_streams_of_an_open_service_end(hub_with, source, running, keys):
    made = []

    def on_line(_):
        if not made:
            made.append(keys.create(owner="local", role="user"))

    hub = hub_with(key_check_s=0.0)
    assert run(lambda: told(hub, source, running, on_line=on_line))[-1].startswith(": the stream ends here")


def test_there_is_an_end_to_streams(hub_with, source, running):
    hub = hub_with(max_of_owner=2, max_streams=3)
    others = [Principal(owner=name, role="user", key_id=None) for name in ("ann", "bob")]

    async def main():
        with hub.follow(source, running.id, LOCAL), hub.follow(source, running.id, LOCAL):
            with pytest.raises(QuotaExceededError), hub.follow(source, running.id, LOCAL):
                pass
            third = hub.follow(source, running.id, others[0])
            with third, pytest.raises(QuotaExceededError), hub.follow(source, running.id, others[1]):
                pass
        with hub.follow(source, running.id, LOCAL):
            assert hub.num_streams == 1

    run(main)


def test_nobody_is_looked_for_once_all_have_left(hub, looked, source, running):
    async def main():
        with hub.follow(source, running.id, LOCAL) as feed:
            assert await feed.news(TIMEOUT_S) is not None
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})

    run(main)
    assert hub.num_streams == 0


def test_a_closed_hub_lets_nobody_follow(hub, source, running):
    hub.close()
    assert len(run(lambda: told(hub, source, running))) == 1


def test_an_error_that_nobody_expected_ends_the_streams_and_is_told(hub, looked, source, running, monkeypatch, caplog):
    monkeypatch.setattr(looked, "standings", lambda _: 1 / 0)
    assert run(lambda: told(hub, source, running))[-1].startswith(": the stream ends here")
    assert "division by zero" in caplog.text
