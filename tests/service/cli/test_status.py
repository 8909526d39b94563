"""Everything at a glance on one screen, and what a job has printed; against a service whose cluster is a fake."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from service.cli.overview import overview_screen
from service.cli.status import watch_overview
from service.client import Client
from service.overview import NUM_CHECKING, NUM_FAILURES, NUM_RUNNING, NUM_WAITING
from service.schemas import (
    AmountView,
    CheckingDataset,
    ClusterView,
    FailureView,
    Overview,
    RunningWork,
    WaitingWork,
    WorkLinks,
)

NOW = datetime(2026, 1, 2, 12, 30, tzinfo=UTC)
LINKS = WorkLinks(self="/v1/adaptations/ad-0123456789ab", dashboard="http://ray.test:8265/#/jobs/ad-0123456789ab-a1")
NASTY = "a name \x1b[31mthat\n is far longer than a name should be, \N{SNOWMAN}" * 3
FULL = Overview(
    at=NOW,
    cluster=ClusterView(
        reachable=True,
        num_nodes=3,
        cpus=AmountView(total=8, used=5.5),
        gpus=AmountView(total=1),
        dashboard="http://ray.test:8265",
    ),
    counts={"adaptation": {"QUEUED": 1200, "RUNNING": 10, "CANCELLING": 0}, "meta-run": {"QUEUED": 0}},
    running=tuple(
        RunningWork(
            kind="adaptation",
            id=f"ad-{number:012x}",
            name=NASTY,
            state="RUNNING",
            attempt=number + 1,
            phase="searching",
            fraction=0.4,
            eta_s=61.0,
            links=LINKS,
        )
        for number in range(NUM_RUNNING)
    ),
    waiting=tuple(
        WaitingWork(kind="meta-run", id=f"mr-{number:012x}", name=NASTY, position=number, attempt=2, links=LINKS)
        for number in range(NUM_WAITING)
    ),
    failures=tuple(
        FailureView(
            kind="adaptation",
            id=f"ad-f{number:011x}",
            name=NASTY,
            at=NOW,
            code="attempts_exhausted",
            message=NASTY * 3,
            links=LINKS,
        )
        for number in range(NUM_FAILURES)
    ),
    checking=tuple(
        CheckingDataset(id=f"ds-{number:012x}", name=NASTY, num_bytes=12_300_000_000, since=NOW)
        for number in range(NUM_CHECKING)
    ),
    free_bytes=31_200_000_000,
)


def drawn(overview: Overview, width: int) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(overview_screen(overview, "http://127.0.0.1:8000"))
    return text.getvalue().splitlines()


def test_the_fullest_overview_fits_one_screen_of_40_lines():
    lines = drawn(FULL, 100)
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    for part in (
        "3 nodes, CPUs: 5.5 of 8 in use, GPUs: 1",
        "1,200 queued, 10 running",
        "31.2 GB",
        "http://ray.test:8265",
    ):
        assert part in text
    for work in (*FULL.running, *FULL.waiting, *FULL.failures, *FULL.checking):
        assert sum(work.id in line for line in lines) == 1
    for part in ("searching", "40%", "ETA 0:01:01", "attempt 10", "next", "4 before it", "attempts_exhausted"):
        assert part in text
    assert "cancelling" not in text
    assert "\x1b" not in text


def test_a_narrow_terminal_costs_words_and_no_lines():
    lines = drawn(FULL, 60)
    assert len(lines) == len(drawn(FULL, 100))
    assert max(map(len, lines)) <= 60


def test_what_there_is_none_of_takes_no_line():
    text = "\n".join(drawn(FULL.model_copy(update={"running": (), "checking": (), "failures": ()}), 100))
    for title in ("running\n", "being checked", "failed lately"):
        assert title not in text
    assert "waiting\n" in text


def test_a_cluster_that_cannot_be_reached_is_told_with_the_reason():
    cluster = ClusterView(reachable=False, why="Ray does not answer: got 'Connection refused'")
    text = "\n".join(drawn(FULL.model_copy(update={"cluster": cluster}), 100))
    assert "cannot be reached: Ray does not answer: got 'Connection refused'" in text
    assert "nodes" not in text


def test_an_id_links_to_its_job_where_the_terminal_can():
    text = io.StringIO()
    Console(file=text, width=100, force_terminal=True).print(overview_screen(FULL, ""))
    assert text.getvalue().count("http://ray.test:8265/#/jobs/ad-0123456789ab-a1") == NUM_RUNNING


@pytest.fixture
def running_job(service, small_zip):
    """The id of an adaptation of which a job runs."""
    dataset = service.add_dataset(small_zip)
    view = service.adapt(dataset_id=dataset["id"], prior="none", name="pets")
    service.await_submission()
    service.job(view["id"]).progress()
    return view["id"]


def test_status_without_an_id_shows_everything(service, running_job, run_cli, last_json):
    server = str(service.client.base_url)
    shown = run_cli("status", "--server", server)
    assert shown.exit_code == 0, shown.output
    for part in (running_job, "pets", "searching", "40%", "3 nodes, CPUs: 1 of 2 in use", server.rstrip("/")):
        assert part in shown.stdout
    as_json = run_cli("status", "--server", server, "--json")
    assert (as_json.exit_code, len(as_json.stdout.splitlines())) == (0, 1)
    overview = Overview.model_validate(last_json(as_json))
    assert overview.running[0].links.log == f"/v1/adaptations/{running_job}/log"


def test_status_tells_that_ray_cannot_be_reached(service, running_job, run_cli):
    service.jobs.down = True
    shown = run_cli("status", "--server", service.client.base_url)
    assert shown.exit_code == 0
    assert "cannot be reached: Ray does not answer" in shown.stdout
    assert running_job in shown.stdout


def test_status_with_an_id_shows_that_adaptation_alone(service, running_job, run_cli):
    shown = run_cli("status", running_job, "--server", service.client.base_url)
    assert "searching" in shown.stdout
    assert "CPUs" not in shown.stdout


@pytest.mark.parametrize("more", [(), ("--json",), ("ad-1",)])
def test_watching_needs_a_terminal_and_everything(run_cli, more):
    refused = run_cli("status", "--watch", *more)
    assert refused.exit_code == 2
    assert "--watch" in refused.stderr


def test_watching_shows_everything_anew_until_ctrl_c(service):
    text, pauses = io.StringIO(), []

    def pause(seconds):
        pauses.append(seconds)
        service.jobs.down = True
        if len(pauses) == 2:
            raise KeyboardInterrupt

    with Client(str(service.client.base_url)) as client:
        watch_overview(client, Console(file=text, width=100, force_terminal=True), pause)
    first, second = text.getvalue().split("cannot be reached")
    assert "3 nodes" in first
    assert "3 nodes" not in second
    assert len(pauses) == 2


def test_log_prints_what_a_job_has_printed_and_nothing_that_moves_the_terminal(
    service, running_job, run_cli, last_json
):
    said = b"\x1b[36m(worker)\x1b[0m step 1\r\n\x1b]0;title\x07\x9b2Jstep\t2"
    service.cluster.observed.logs[f"{running_job}-a1"] = b"older\n" + said
    options = (running_job, "--server", service.client.base_url)
    shown = run_cli("log", *options)
    assert (shown.exit_code, shown.stdout) == (
        0,
        "older\n(worker) step 1\n]0;title\N{REPLACEMENT CHARACTER}2Jstep\t2\n",
    )
    cut = run_cli("log", *options, "--bytes", len(said), "--json")
    assert last_json(cut) == {"id": running_job, "log": shown.stdout.removeprefix("older\n").rstrip("\n")}


def test_log_of_a_job_that_has_said_nothing_is_empty(service, running_job, run_cli):
    shown = run_cli("log", running_job, "--server", service.client.base_url, "--attempt", 1)
    assert (shown.exit_code, shown.stdout) == (0, "")


def test_log_knows_meta_runs_by_their_ids(service, small_zip, run_cli):
    dataset = service.add_dataset(small_zip)
    service.client.patch(f"/v1/datasets/{dataset['id']}", json={"meta_use": True})
    body = {"datasets": [{"dataset_id": dataset["id"]}], "config": {"min_ways": 2}}
    meta_run = service.client.post("/v1/meta-runs", json=body).json()
    service.cluster.observed.logs[service.await_submission()] = b"step 1\n"
    shown = run_cli("log", meta_run["id"], "--server", service.client.base_url)
    assert (shown.exit_code, shown.stdout) == (0, "step 1\n")


@pytest.mark.parametrize("unknown", ["ad-nobody", "mr-nobody"])
def test_the_log_of_an_unknown_id_is_an_error(service, run_cli, unknown):
    shown = run_cli("log", unknown, "--server", service.client.base_url)
    assert shown.exit_code == 1
    assert "no such" in shown.stderr.lower()


def test_the_calls_of_the_client_return_what_the_service_shows(service, running_job):
    service.cluster.observed.logs[f"{running_job}-a1"] = b"one\ntwo\n"
    with Client(str(service.client.base_url)) as client:
        assert client.overview().running[0].id == running_job
        assert client.adaptation_log(running_job, max_bytes=4) == "two\n"
        assert client.adaptation_actors(running_job, attempt=1).job_id == f"{running_job}-a1"
