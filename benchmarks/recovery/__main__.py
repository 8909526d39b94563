"""The table of recovery: a service is killed at each step of its way, and what it needs is taken away.

`make bench-recovery`: each row is one service on a folder of its own, killed at one point and followed by another,
asked by a client that repeats what was not answered. In most rows jobs lie in a folder (`service.FolderJobs`)
and train nothing; in those of `real_ray` they train on a local Ray. Databases, stores and processes are real.
`--only fake` or `--only real` makes a part of it, and writes nothing.
"""

import argparse
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Final

from benchmarks.machine import describe, write
from benchmarks.recovery.job import DEAF, FAILS, FAILS_ONCE
from benchmarks.recovery.real_ray import real_rows
from benchmarks.recovery.servers import s3_server
from benchmarks.recovery.service import DOWN, KILLED
from benchmarks.recovery.services import Row, Services, adaptation_form, jobs_of, new_folder, services
from benchmarks.service.postgresql import DEBIAN, postgresql, programs

AWAY_S: Final = 30.0
LOCKED_S: Final = 20.0
FOR_EVER_S: Final = 1e6
NUM_QUEUED: Final = 50
TAKES_OVER_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way in which a service is killed, and how its work is to end all the same, and in which attempt."""

    point: str
    when: str
    seed: int = 0
    cancel: bool = False
    state: str = "SUCCEEDED"
    attempt: int = 1


def _around(point: str, **more: object) -> tuple[Case, Case]:
    return (Case(point=point, when="before", **more), Case(point=point, when="after", **more))


CASES: Final = (
    *_around("write the archive"),
    *_around("write the report"),
    *_around("record the dataset"),
    *_around("record the adaptation"),
    *_around("write request.json"),
    # What was recorded as RUNNING but never submitted is begun again.
    Case(point="record RUNNING", when="before"),
    Case(point="record RUNNING", when="after", attempt=2),
    Case(point="submit the job", when="before", attempt=2),
    Case(point="submit the job", when="after"),
    *_around("record SUCCEEDED"),
    *_around("record the new attempt", seed=FAILS_ONCE, attempt=2),
    *_around("record FAILED", seed=FAILS, state="FAILED", attempt=3),
    *_around("record CANCELLING", cancel=True, state="CANCELLED"),
    *_around("write control.json", cancel=True, state="CANCELLED"),
    *_around("record CANCELLED", cancel=True, state="CANCELLED"),
    *_around("stop the job", cancel=True, seed=DEAF, state="CANCELLED"),
)


def killed(case: Case) -> Row:
    """Return what comes of work whose service is killed once."""
    with services(job_s=FOR_EVER_S if case.cancel else 0.5) as here:
        began = time.monotonic()
        here.start(case.point, case.when)
        work_id = here.adapt(seed=case.seed)
        if case.cancel:
            here.await_state(work_id, frozenset({"RUNNING"}))
            here.ask("POST", f"/v1/adaptations/{work_id}/cancel")
        view = here.await_state(work_id)
        here.ask("GET", "/healthz")  # whoever was killed in the last moment has a successor
        what, died = f"killed {case.when}: {case.point}", here.exit_codes == [KILLED]
        return here.row(what, view, began, wanted=case.state, attempt=case.attempt, ok=died)


def sql_locked() -> Row:
    """Return what comes of work while another process keeps the database for longer than a statement waits."""
    with services(job_s=2.0) as here:
        began = time.monotonic()
        here.start()
        work_id = here.adapt()
        here.await_state(work_id, frozenset({"RUNNING"}))
        with _locked(here):
            time.sleep(LOCKED_S)
        return here.row(f"SQL locked for {LOCKED_S:.0f} s", here.await_state(work_id), began)


def posted_while_locked() -> Row:
    """Return what comes of a request that meets a locked database: it is refused whole, and works later."""
    with services() as here:
        began = time.monotonic()
        here.start()
        here.ask("GET", "/healthz")
        form = adaptation_form()
        with _locked(here):
            held = time.monotonic()
            refused = here.http.post("/v1/adaptations", **form)
            time.sleep(max(0.0, held + LOCKED_S - time.monotonic()))
        kept = here.count("adaptations") + here.count("datasets")
        said = (refused.status_code, "Retry-After" in refused.headers)
        posted = here.ask("POST", "/v1/adaptations", **form)
        view = here.await_state(str(posted.json()["id"]))
        what = f"posted while SQL is locked for {LOCKED_S:.0f} s"
        return here.row(what, view, began, ok=(*said, kept) == (503, True, 0))


def cluster_lost() -> Row:
    """Return what comes of work whose cluster is away for a while, and then knows no job any more."""
    with services(job_s=3.0) as here:
        began = time.monotonic()
        here.start()
        work_id = here.adapt()
        here.await_state(work_id, frozenset({"RUNNING"}))
        while not here.num_left():  # recorded first, then submitted
            time.sleep(0.1)
        (here.jobs / DOWN).touch()
        time.sleep(5.0)
        for job in here.jobs.glob("*.json"):
            job.unlink()
        (here.jobs / DOWN).unlink()
        return here.row("cluster lost and back", here.await_state(work_id), began, attempt=2)


def store_away() -> Row:
    """Return what comes of work whose S3 server is away for `AWAY_S`."""
    with s3_server() as server, services(job_s=3.0, environment=server.environment) as here:
        began = time.monotonic()
        here.start()
        work_id = here.adapt()
        here.await_state(work_id, frozenset({"RUNNING"}))
        server.away(AWAY_S)
        return here.row(f"store away for {AWAY_S:.0f} s", here.await_state(work_id), began)


def one_of_two_killed() -> Row:
    """Return what comes of `NUM_QUEUED` adaptations if the one of two services that submits their jobs is killed.

    They share a PostgreSQL, a store, and the jobs.
    """
    installed = programs()
    if installed is None:
        raise FileNotFoundError(f"no PostgreSQL in {DEBIAN}: apt-get install postgresql")
    with postgresql(installed) as server, new_folder() as folder:
        shared = {
            "ARCHPRIOR_DATABASE_URL": server.new_database(),
            "ARCHPRIOR_STORE_URL": str(folder / "objects"),
            "ARCHPRIOR_RAY_ADDRESS": "http://127.0.0.1:8265",  # never asked: jobs lie in the folder
        }
        jobs = jobs_of(folder, 0.2)
        first, second = (Services(folder / name, *jobs, environment=shared, jobs=folder / "jobs") for name in "ab")
        try:
            began = time.monotonic()
            first.start()
            first.adapt()  # it leads, and the dataset is there
            second.start()
            dataset_id = second.ask("GET", "/v1/datasets").json()["items"][0]["id"]
            body = {"dataset_id": dataset_id, "prior": "none"}
            ids = [second.ask("POST", "/v1/adaptations", json=body).json()["id"] for _ in range(1, NUM_QUEUED)]
            led = _num_submitted(first)
            first.kill()
            views = [second.await_state(one, patience_s=TAKES_OVER_S) for one in ids]
            states = Counter(str(view["state"]) for view in views)
            # Killed between recording and submitting, at most those that had a slot are begun again.
            again = sum(int(str(view["attempt"])) - 1 for view in views)
            ok = states == {"SUCCEEDED": NUM_QUEUED - 1} and again <= 2 and 0 < led < NUM_QUEUED
            what = f"one of two services killed, {NUM_QUEUED - led} queued"
            last = views[-1]
            return second.row(what, last, began, attempt=1, num_adaptations=NUM_QUEUED, ok=ok)
        finally:
            first.end()
            second.end()


def _num_submitted(here: Services) -> int:
    return len((here.jobs / "submissions").read_text().split())


@contextmanager
def _locked(here: Services) -> Iterator[None]:
    """Keep a service's SQLite file for the block's time, as another process would."""
    with closing(sqlite3.connect(here.data_dir / "records.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


SITUATIONS: Final[tuple[Callable[[], Row], ...]] = (
    sql_locked,
    posted_while_locked,
    cluster_lost,
    store_away,
    one_of_two_killed,
)


def fake_rows() -> Iterator[Row]:
    """Yield the rows whose jobs lie in a folder."""
    yield from map(killed, CASES)
    for situation in SITUATIONS:
        yield situation()


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("fake", "real"), help="a part of the table; writes nothing")
    only = parser.parse_args().only
    about = describe()
    parts = {"fake": fake_rows, "real": real_rows}
    rows = []
    for row in chain.from_iterable(part() for name, part in parts.items() if only in {None, name}):
        rows.append(row)
        print(row, flush=True)
    bad = [f"{row.what} ({row.ray})" for row in rows if not row.ok]
    results = {
        "num_rows": len(rows),
        "num_ok": len(rows) - len(bad),
        "num_with_ray": sum(row.ray != "folder" for row in rows),
        "not_ok": bad,
    }
    if only is None:
        write("recovery", results, {**about, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
