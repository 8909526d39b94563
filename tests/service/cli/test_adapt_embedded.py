import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

from service.cli import embedded
from service.ray import processes

ENTRY = """
import pathlib, signal, sys
from service.cli import embedded, main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have made its background jobs deaf to it
embedded.serve_command = lambda data_dir: (sys.argv[1], sys.argv[2], str(data_dir), sys.argv[3], "attached")
main.app(sys.argv[4:])
"""


@pytest.fixture
def fake_child(monkeypatch, fake_command):
    monkeypatch.setattr(embedded, "serve_command", fake_command)


def events(journal):
    return [line.split(" ", 1)[0] for line in journal.read_text().splitlines()]


def assert_gone(journal):
    pid = int(journal.read_text().splitlines()[0].split()[1])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.usefixtures("fake_child")
def test_a_service_is_started_used_and_ended(run_cli, last_json, journal, temporary, archive, tmp_path):
    result = run_cli("adapt", archive, "--out", tmp_path / "out", "--name", "works", "--json")
    assert result.exit_code == 0, result.output
    assert last_json(result)["state"] == "SUCCEEDED"
    assert events(journal) == ["started", "dataset", "adaptation", "stopped"]
    assert_gone(journal)
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("fake_child")
def test_a_failed_adaptation_leaves_nothing_behind(run_cli, journal, temporary, archive):
    result = run_cli("adapt", archive, "--name", "fails")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: no architecture is within the limits")
    assert "starting the service (ray: starting)" in result.stderr
    assert events(journal)[-1] == "stopped"
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("fake_child")
def test_a_service_that_dies_is_told_with_the_end_of_its_log(run_cli, last_json, temporary, archive, monkeypatch):
    monkeypatch.setattr("service.client.retries.RetryPolicy.delay_s", lambda *_: None)
    result = run_cli("adapt", archive, "--name", "dies", "--json")
    assert result.exit_code == 1
    assert "the local service ended with code 7" in result.stderr
    assert "the last words of the service" in result.stderr
    assert last_json(result)["error"]["code"] == "embedded_service"
    assert list(temporary.iterdir()) == []


def test_a_service_that_cannot_start_is_told_with_the_end_of_its_log(
    run_cli, temporary, archive, monkeypatch, fake_command
):
    monkeypatch.setattr(embedded, "serve_command", lambda data_dir: (*fake_command(data_dir)[:-1], "broken"))
    result = run_cli("adapt", archive)
    assert result.exit_code == 1
    assert "ended with code 1" in result.stderr
    assert "the service cannot start: no Ray here" in result.stderr
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("fake_child")
def test_a_kept_data_folder_keeps_its_log(run_cli, temporary, archive, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "service.json").write_text('{"url": "http://127.0.0.1:9", "pid": 1}')  # of a killed one
    result = run_cli("adapt", archive, "--data-dir", tmp_path / "kept", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["service.log"]


@pytest.mark.usefixtures("fake_child")
def test_a_data_folder_in_use_is_refused(run_cli, running, archive, tmp_path, journal):
    (tmp_path / "service.json").write_text(json.dumps({"url": running, "pid": 1}))
    result = run_cli("adapt", archive, "--data-dir", tmp_path)
    assert result.exit_code == 2
    assert f"--server {running}" in result.stderr
    assert events(journal) == []


@pytest.mark.usefixtures("fake_child")
@pytest.mark.parametrize("data", ["no-such-file.zip", "no/such/folder"])
def test_data_that_is_not_there_starts_nothing(run_cli, journal, data):
    result = run_cli("adapt", data)
    assert result.exit_code == 2
    assert "no such dataset" in result.stderr
    assert events(journal) == []


@pytest.mark.usefixtures("fake_child")
def test_a_folder_of_class_folders_is_zipped_on_the_way(run_cli, journal, temporary, tmp_path):
    for label in ("a", "b"):
        (tmp_path / "digits" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), number).save(tmp_path / "digits" / label / f"{number}.png")
    result = run_cli("adapt", tmp_path / "digits", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    dataset = journal.read_text().splitlines()[1]
    assert dataset.startswith("dataset digits ")
    assert dataset.endswith("b'PK'")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_and_ends_the_service(fake_command, journal, temporary, archive, tmp_path, signum):
    python, script, _, log, _ = fake_command(tmp_path)
    command = (sys.executable, "-c", ENTRY, python, script, log, "adapt", str(archive), "--name", "endless")
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "searching" in line:
                break
        process.send_signal(signum)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert rest.splitlines()[-1] == "interrupted"
    assert events(journal) == ["started", "dataset", "adaptation", "cancel", "stopped"]
    assert_gone(journal)
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("temporary")
def test_a_command_that_is_killed_takes_its_service_with_it(fake_command, journal, archive, tmp_path):
    python, script, _, log, _ = fake_command(tmp_path)
    command = (sys.executable, "-c", ENTRY, python, script, log, "adapt", str(archive), "--name", "endless")
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for line in process.stderr:
            if "searching" in line:
                break
        service = int(journal.read_text().splitlines()[0].split()[1])
        mark = processes.mark(service)
        process.kill()
    assert processes.wait_ended({service: mark}, timeout_s=30.0)
    assert events(journal)[-1] == "stopped"


@pytest.mark.usefixtures("fake_child")
def test_a_prior_of_ones_own_is_handed_in_and_named(run_cli, own_prior, archive, tmp_path, journal):
    result = run_cli("adapt", archive, "--prior", own_prior, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert events(journal) == ["started", "dataset", "prior", "adaptation", "stopped"]
    _, _, handed_in, asked, _ = journal.read_text().splitlines()
    assert handed_in == "prior own-v1 11"
    assert json.loads(asked.split(" ", 1)[1])["prior"] == "own-v1"


@pytest.mark.usefixtures("fake_child")
def test_a_prior_that_does_not_match_its_card_starts_nothing(run_cli, own_prior, archive, journal):
    (own_prior / "prior.safetensors").write_bytes(b"other")
    result = run_cli("adapt", archive, "--prior", own_prior)
    assert result.exit_code == 1
    assert "does not match its card" in result.stderr
    assert events(journal) == []


def test_a_folder_without_a_card_is_no_prior(run_cli, archive, tmp_path):
    result = run_cli("adapt", archive, "--prior", tmp_path)
    assert result.exit_code == 2
    assert "no prior in this folder" in result.stderr
