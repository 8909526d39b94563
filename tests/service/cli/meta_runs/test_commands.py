"""`archprior meta-runs` against a service that tells prepared stories."""

import json

import pytest

from service.schemas import MetaRunView
from workers.contracts.meta_runs import MetaEvent


@pytest.fixture
def start(run_cli, running):
    def start(name="works", *options):
        return run_cli("meta-runs", "start", "--dataset", "ds1", "--server", running, "--name", name, *options)

    return start


@pytest.fixture
def run_id(start, last_json):
    """A run that nobody has looked at yet."""
    return last_json(start("works", "--budget-s", 120, "--json"))["id"]


def test_every_option_reaches_the_service(run_cli, running, last_json, tmp_path):
    (tmp_path / "config.json").write_text('{"num_steps": 900, "seed": 4}')
    options = {
        "--config": tmp_path / "config.json", "--set": "num_steps=40", "--parent": "base-v1", "--prior-id": "mine",
        "--name": "night", "--max-workers": 3, "--cpus-per-worker": 2, "--budget-s": 120, "--num-tasks": 7,
    }  # fmt: skip
    flat = [part for pair in options.items() for part in pair]
    result = run_cli(
        "meta-runs", "start", "--dataset", "a", "--dataset", "b:2", *flat, "--set", "num_slots=2", "--server", running,
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    request = MetaRunView.model_validate(last_json(result)).request
    assert [(one.dataset_id, one.weight) for one in request.datasets] == [("a", None), ("b", 2.0)]
    config = request.config
    assert (config.num_steps, config.seed, config.num_slots, config.warmup_steps) == (40, 4, 2, 24)
    assert (request.parent, request.prior_id, request.name) == ("base-v1", "mine", "night")
    assert (request.max_workers, request.cpus_per_worker, request.budget_s, request.num_tasks) == (3, 2, 120.0, 7)


def test_a_start_says_how_the_run_can_be_followed(start, running):
    result = start()
    assert result.exit_code == 0, result.output
    assert f"--server {running}" in result.stdout
    assert "archprior meta-runs follow mr" in result.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--set", "steps=5"), "unknown field of the configuration: got 'steps'; expected one of arch_entropy"),
        (("--set", "num_steps=0"), "num_steps: Input should be greater than or equal to 1"),
        (("--max-workers", "0"), "--max-workers: Input should be greater than or equal to 1, got 0"),
        (("--prior-id", "../x"), "--prior-id: "),
        (("--dataset", "ds1"), "datasets: name each dataset once"),
        (("--dataset", "ds2:none"), "--dataset ds2:none: weight"),
        (("--config", "no-such-file.json"), "no-such-file.json cannot be read"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_at_once(start, last_json, options, text):
    result = start("works", *options, "--json")
    assert result.exit_code == 2
    assert text in result.stderr
    assert last_json(result)["error"]["status"] == 400


def test_what_the_service_refuses_is_told(run_cli, running):
    result = run_cli("meta-runs", "start", "--dataset", "private", "--server", running)
    assert (result.exit_code, result.stderr) == (1, "error: meta-runs may not learn from dataset private\n")


def test_runs_are_listed_newest_first_and_by_state(run_cli, running, last_json, start):
    first, second = (last_json(start(name, "--json"))["id"] for name in ("one", "two"))
    listed = last_json(run_cli("meta-runs", "list", "--server", running, "--limit", 2, "--json"))
    assert [item["id"] for item in listed["items"]] == [second, first]
    text = run_cli("meta-runs", "list", "--server", running, "--state", "QUEUED").stdout
    assert (second in text, "queued" in text, "two" in text) == (True, True, True)
    assert first not in run_cli("meta-runs", "list", "--server", running, "--state", "CANCELLED").stdout


def test_show_tells_all_of_a_running_run(run_cli, running, run_id):
    for _ in range(3):
        shown = run_cli("meta-runs", "show", run_id, "--server", running)
    assert shown.exit_code == 0
    for part in (
        f"meta-run {run_id} (works) makes made: learning",
        "step 60 / 100",
        "60%",
        "ETA 0:00:40",
        "learned 0:01:00 of 0:02:00",
        "2.345",
        "3.50",
        "1.2%",
        "0.25",
        "loc 1.25, arch_logits 0.5",
        "1.250 nats",
        "48.0% after 0 steps, 52.0% after 4 steps (at step 50)",
        "3 not finite, 1 stale, 0 duplicate, 0 backups, 1 lost workers, 0 steps taken again",
        "of step 50",
        "1 workers for now",
        "slot 1 of step 60",
        "node-b",
        "4321",
    ):
        assert part in shown.stdout


def test_show_tells_what_came_of_it(run_cli, running, run_id):
    for _ in range(4):
        shown = run_cli("meta-runs", "show", run_id, "--server", running)
    for part in (
        "SUCCEEDED",
        "100 of 2,000 steps",
        "40.0% ± 3.1%",
        "50.0% ± 2.9%",
        "batch_divisor 2: worker-1 ran out",
    ):
        assert part in shown.stdout
    assert f"archprior priors promote made --server {running}" in shown.stdout


@pytest.mark.parametrize(("command", "state"), [("stop", "STOPPED"), ("cancel", "CANCELLED"), ("resume", "QUEUED")])
def test_a_run_is_steered(run_cli, running, last_json, run_id, command, state):
    result = run_cli("meta-runs", command, run_id, "--server", running, "--json")
    assert (result.exit_code, last_json(result)["state"]) == (0, state)
    text = run_cli("meta-runs", command, run_id, "--server", running)
    assert (text.exit_code, run_id in text.stdout) == (0, True)


@pytest.mark.parametrize("command", ["show", "follow", "stop", "resume", "cancel"])
def test_an_unknown_run_is_an_error(run_cli, running, last_json, command):
    result = run_cli("meta-runs", command, "nobody", "--server", running, "--json")
    assert (result.exit_code, last_json(result)["error"]["code"]) == (1, "not_found")
    assert result.stderr == "error: no such meta-run: nobody\n"


def test_events_are_listed_from_where_one_left_off(run_cli, running, last_json, run_id):
    for _ in range(4):
        run_cli("meta-runs", "show", run_id, "--server", running)
    page = last_json(run_cli("meta-runs", "events", run_id, "--after", 2, "--server", running, "--json"))
    assert [item["sequence"] for item in page["items"]] == [3, 4]
    text = run_cli("meta-runs", "events", run_id, "--server", running).stdout
    assert "worker joined" in text
    assert "worker-1 on node-a" in text


def test_the_files_of_a_run_are_fetched(run_cli, running, last_json, run_id, tmp_path):
    for _ in range(4):
        run_cli("meta-runs", "show", run_id, "--server", running)
    result = run_cli("meta-runs", "download", run_id, "--out", tmp_path / "out", "--server", running, "--json")
    assert result.exit_code == 0, result.output
    assert last_json(result) == {name: str(tmp_path / "out" / name) for name in ("metrics.json", "report.md")}
    assert (tmp_path / "out" / "report.md").read_bytes() == b"# Report\n"
    text = run_cli("meta-runs", "download", run_id, "--out", tmp_path / "out", "--server", running)
    assert str(tmp_path / "out" / "metrics.json") in text.stdout


def test_following_on_a_pipe_is_a_line_for_each_change(start):
    result = start("works", "--follow")
    assert result.exit_code == 0, result.output
    lines = [line.split("] ", 1)[-1] for line in result.stderr.splitlines()]
    assert lines[1:] == [
        "step 0: worker joined: worker-1 on node-a",
        "loading  step 0 / 100    0%  ETA 0:01:40",
        "step 10: worker lost: worker-1 died: [red] its slot goes to another",
        "learning  step 10 / 100   10%  ETA 0:01:30  loss 2.345  slots/s 3.50  data wait 1.2%",
        "step 60: judged: 52.0 % after 4 steps",
        "step 100: checkpoint: of step 100",
        "succeeded  step 100 / 100  100%  ETA 0:00:00  loss 2.345  slots/s 3.50  data wait 1.2%",
    ]
    assert "prior made" in result.stdout


def test_following_as_json_is_a_line_for_each_event_and_the_run_at_the_end(start):
    result = start("works", "--follow", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    *events, last = map(json.loads, result.stdout.splitlines())
    assert [MetaEvent.model_validate(event).sequence for event in events] == [1, 2, 3, 4, 5]
    view = MetaRunView.model_validate(last)
    assert (view.state, view.result.prior_id) == ("SUCCEEDED", "made")


@pytest.mark.parametrize(
    ("name", "text"),
    [("fails", "error: the run diverged. Lower --set lr."), ("is cancelled", "was cancelled")],
)
@pytest.mark.parametrize("options", [("--follow",), ("--follow", "--json")])
def test_a_bad_end_is_told_and_exits_with_1(start, last_json, name, text, options):
    result = start(name, *options)
    assert result.exit_code == 1
    assert text in result.stderr.splitlines()[-1]
    if "--json" in options:
        assert last_json(result)["state"] in ("FAILED", "CANCELLED")
