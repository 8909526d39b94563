import json
import subprocess
import sys

import pytest

from search_spaces.registry import SPACES
from service.schemas import SpaceView
from workers.priors.registry import bundled_cards


def test_spaces_as_json(run_cli, last_json):
    result = run_cli("spaces", "--json")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    views = {view["name"]: SpaceView.model_validate(view) for view in last_json(result)}
    assert views.keys() == SPACES.keys()
    for name, view in views.items():
        assert len(view.decisions) == SPACES[name].num_decisions
        assert SPACES[name].is_valid(SPACES[name].parse(view.published or ""))
        assert view.default_prior in {None, *bundled_cards()}


@pytest.mark.parametrize("name", SPACES)
def test_spaces_as_text(run_cli, name):
    result = run_cli("spaces")
    assert result.exit_code == 0
    for part in (name, SPACES[name].title, str(SPACES[name].num_decisions), *SPACES[name].decisions[0].options):
        assert part in result.stdout


def test_list_status_and_cancel(run_cli, last_json, running, archive, tmp_path):
    adapted = run_cli(
        "adapt", archive, "--server", running, "--name", "works", "--out", tmp_path / "out", "--quiet", "--json"
    )
    adaptation_id = last_json(adapted)["id"]
    assert adaptation_id in run_cli("list", "--server", running).stdout
    listed = last_json(run_cli("list", "--server", running, "--state", "SUCCEEDED", "--json"))
    assert adaptation_id in {item["id"] for item in listed["items"]}
    status = run_cli("status", adaptation_id, "--server", running)
    assert (status.exit_code, "SUCCEEDED" in status.stdout, "97.5%" in status.stdout) == (0, True, True)
    cancelled = run_cli("cancel", adaptation_id, "--server", running, "--json")
    assert (cancelled.exit_code, last_json(cancelled)["id"]) == (0, adaptation_id)


def test_a_name_is_shown_as_it_is_and_not_read_as_markup(run_cli, last_json, running, archive, tmp_path):
    name = "[/bold] [red]x"
    arguments = ("--server", running, "--name", name, "--quiet", "--out", tmp_path / "[red]")
    adapted = run_cli("adapt", archive, *arguments)
    assert (adapted.exit_code, "[red]" in adapted.stdout) == (0, True), adapted.output
    listed = run_cli("list", "--server", running)
    assert (listed.exit_code, name in listed.stdout) == (0, True), listed.output


@pytest.mark.parametrize("command", ["status", "cancel"])
def test_an_unknown_id_is_an_error(run_cli, last_json, running, command):
    result = run_cli(command, "nobody", "--server", running, "--json")
    assert (result.exit_code, last_json(result)["error"]["code"]) == (1, "not_found")
    assert result.stderr == "error: no such adaptation: nobody\n"


def test_the_status_of_one_that_failed_says_what_to_do(run_cli, last_json, running, archive, tmp_path):
    run_cli("adapt", archive, "--server", running, "--name", "fails", "--out", tmp_path / "out", "--quiet")
    failed = last_json(run_cli("list", "--server", running, "--state", "FAILED", "--json"))["items"]
    told = [
        run_cli("status", one["id"], "--server", running).stdout for one in failed if one["request"]["name"] == "fails"
    ]
    assert told
    assert all("Raise --max-params." in text for text in told)


@pytest.mark.parametrize("arguments", [(), ("no-such-command",), ("adapt",), ("inspect",)])
def test_usage_errors_exit_with_2(run_cli, arguments):
    result = run_cli(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_no_command_imports_torch_at_start():
    code = "import sys, service.cli.main; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_output_into_a_closed_pipe_ends_quietly():
    command = f"{json.dumps(sys.executable)} -m service.cli.main spaces --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
