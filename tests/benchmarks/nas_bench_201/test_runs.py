"""Runs that are not made twice, and arms that get no table."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.machine import ROOT
from benchmarks.nas_bench_201 import runs
from benchmarks.nas_bench_201.cells import cap_of
from benchmarks.nas_bench_201.images import write_task
from benchmarks.nas_bench_201.job import Choice, Decision, Job, clock_of
from benchmarks.nas_bench_201.runs import FailedRunError, Run, carry_out, in_process, key_of, plan_runs

WATCHED = """
import sys
import benchmarks.nas_bench_201.one
print(sorted(name for name in sys.modules if name.endswith((".table", ".judge")) and "nas_bench_201" in name))
"""


def planned(tmp_path: Path, *arms: str, **changes) -> list[Run]:
    options = {"prior": None, "seconds": 60.0, "threads": 2, "clock": "wall", "epochs": 12, "work": tmp_path} | changes
    images = dict.fromkeys(arms, tmp_path / "images")
    return plan_runs(arms, [cap_of(10), cap_of(100)], 2, images=images, **options)


def test_an_arm_that_draws_nothing_runs_once_a_cap(tmp_path) -> None:
    found = [(run.job.arm, run.cap.name, run.job.seed) for run in planned(tmp_path, "naswot", "most_params")]

    assert found == [
        ("naswot", "10%", 0),
        ("most_params", "10%", 0),
        ("naswot", "100%", 0),
        ("most_params", "100%", 0),
        ("naswot", "10%", 1),
        ("naswot", "100%", 1),
    ]


def test_what_is_decided_is_not_decided_again(tmp_path) -> None:
    executed = []

    def execute(job: Job, path: Path) -> None:
        executed.append(job)
        decision = Decision(choice=Choice(cells=("000100",), num_judged=len(executed)), used_s=1, wall_s=1, cpu_s=1)
        path.write_text(decision.model_dump_json())

    first = carry_out(planned(tmp_path, "naswot"), execute)
    next(first)
    next(first)
    assert len(executed) == 2  # then it is stopped

    found = list(carry_out(planned(tmp_path, "naswot"), execute))

    assert len(executed) == 4
    assert [decision.choice.num_judged for _, decision in found] == [1, 2, 3, 4]


@pytest.mark.parametrize("changes", [{"seconds": 30.0}, {"threads": 1}, {"clock": "cpu"}])
def test_another_job_is_another_run(tmp_path, changes) -> None:
    before = {run.path for run in planned(tmp_path, "naswot")}

    assert before.isdisjoint({run.path for run in planned(tmp_path, "naswot", **changes)})


def test_another_prior_is_another_run(tmp_path) -> None:
    for name in ("card.json", "prior.safetensors"):
        (tmp_path / name).write_bytes(b"one")
    (job,) = {
        run.job for run in planned(tmp_path, "ours", prior=tmp_path) if run.job.seed == 0 and run.cap.name == "10%"
    }
    before = key_of(job, "code")
    (tmp_path / "prior.safetensors").write_bytes(b"two")

    assert key_of(job, "code") != before


def test_no_arm_can_see_a_table() -> None:
    # The process of an arm never loads what reads tables, and a job has no field to name one by.
    found = subprocess.run([sys.executable, "-c", WATCHED], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)

    assert found.stdout.strip() == "[]"
    assert set(Job.model_fields) == {
        "arm",
        "max_macs",
        "seed",
        "seconds",
        "threads",
        "clock",
        "images",
        "epochs",
        "prior",
    }


def test_an_arms_process_is_not_told_where_tables_lie(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ARCHPRIOR_SHARED_DATA", "/somewhere")
    monkeypatch.setattr(
        runs.subprocess, "run", lambda *_, env, **__: told.append(env) or subprocess.CompletedProcess([], 0)
    )
    told: list[dict[str, str]] = []
    (run, *_) = planned(tmp_path, "naswot")

    in_process(run.job, run.path)

    assert "ARCHPRIOR_SHARED_DATA" not in told[0]
    assert told[0]["OMP_NUM_THREADS"] == "2"


def test_a_job_comes_back_decided_from_its_own_process(packed, tmp_path) -> None:
    images = write_task(packed, tmp_path / "images")
    job = Job(arm="most_params", max_macs=cap_of(100).max_macs, seed=0, seconds=1, threads=1, images=images)
    path = tmp_path / "decision.json"

    in_process(job, path)

    assert Decision.from_stored(path.read_bytes(), "decision").choice.cells == ("333333",)
    assert json.loads(path.read_text())["schema_version"] == 1


def test_an_arm_that_fails_says_why(packed, tmp_path) -> None:
    images = write_task(packed, tmp_path / "images")
    job = Job(arm="best", max_macs=cap_of(100).max_macs, seed=0, seconds=1, threads=1, images=images)

    with pytest.raises(FailedRunError, match="unknown arm"):
        in_process(job, tmp_path / "decision.json")


def test_seconds_of_cpu_are_shared_among_threads(tmp_path) -> None:
    job = Job(arm="naswot", max_macs=1, seed=0, seconds=60, threads=2, clock="cpu", images=tmp_path)
    before_s = time.process_time()

    now_s = clock_of(job)()

    assert before_s / 2 <= now_s <= time.process_time() / 2
    assert clock_of(job.model_copy(update={"clock": "wall"})) is time.monotonic
