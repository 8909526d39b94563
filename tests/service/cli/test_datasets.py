"""`archprior datasets` against a service that tells what it was sent."""

import shlex
from contextlib import contextmanager

import pytest

from service.schemas import DatasetView


@pytest.fixture
def added(run_cli, running, archive, tmp_path):
    """Returns a function that adds a dataset, the same within a test and another in each."""
    own = tmp_path / "digits.zip"
    own.write_bytes(archive.read_bytes() + str(tmp_path).encode())

    def add(*options):
        return run_cli("datasets", "add", own, "--server", running, *options)

    return add


def test_a_dataset_is_added_with_its_name_terms_and_leave(added, last_json):
    result = added("--name", "pets", "--meta-use", "--terms", "CC BY 4.0", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    view = DatasetView.model_validate(last_json(result))
    assert (view.name, view.meta_use, view.terms) == ("pets", True, "CC BY 4.0")


def test_without_options_it_is_named_for_its_file_and_no_meta_run_learns_from_it(added, last_json):
    view = DatasetView.model_validate(last_json(added("--json")))
    assert (view.name, view.meta_use, view.terms) == ("digits", False, "not stated")


def test_of_a_dataset_that_was_here_before_what_is_asked_holds_and_the_rest_stays(added, last_json):
    added("--name", "pets", "--json")
    again = last_json(added("--meta-use", "--terms", "CC0", "--json"))
    assert (again["name"], again["meta_use"], again["terms"]) == ("pets", True, "CC0")
    assert last_json(added("--json")) == again


def test_allow_and_forbid_change_what_the_list_says(added, run_cli, running, last_json):
    added()
    for command, allowed, text in (("allow", True, "may learn from it"), ("forbid", False, "may not")):
        changed = run_cli("datasets", command, "ds1", "--server", running, "--json")
        assert (changed.exit_code, last_json(changed)["meta_use"]) == (0, allowed)
        listed = run_cli("datasets", "list", "--server", running)
        assert (listed.exit_code, text in listed.stdout, "digits" in listed.stdout) == (0, True, True)
    assert last_json(run_cli("datasets", "list", "--server", running, "--json"))["items"][0]["id"] == "ds1"


@pytest.mark.parametrize("command", ["allow", "forbid", "show", "delete"])
def test_an_unknown_dataset_is_an_error(run_cli, running, last_json, command):
    result = run_cli("datasets", command, "nobody", "--server", running, "--json")
    assert (result.exit_code, last_json(result)["error"]["code"]) == (1, "not_found")


def test_a_path_without_data_is_refused_at_once(run_cli, running):
    result = run_cli("datasets", "add", "no/such.zip", "--server", running)
    assert (result.exit_code, "no such dataset" in result.stderr) == (2, True)


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A dataset that is sent in parts, of ten bytes each; another one for each test."""
    monkeypatch.setattr("service.cli.dataset_uploads.PARTS_ABOVE_BYTES", 20)
    path = tmp_path / "large pets.zip"
    path.write_bytes(b"PK" + str(tmp_path).encode() + b"." * 30)
    return path


def test_a_large_dataset_is_sent_in_parts(run_cli, running, large, last_json):
    result = run_cli("datasets", "add", large, "--server", running, "--meta-use", "--json")
    assert (result.exit_code, result.stderr, len(result.stdout.splitlines())) == (0, "", 1)
    view = DatasetView.model_validate(last_json(result))
    assert (view.name, view.state, view.meta_use) == ("large pets", "READY", True)
    assert view.id.startswith("part")


def test_lines_tell_how_a_large_dataset_gets_on(run_cli, running, large):
    result = run_cli("datasets", "add", large, "--server", running)
    assert result.exit_code == 0
    assert "READY" in result.stdout
    assert "sending large pets.zip  100%" in result.stderr
    assert "the service checks it" in result.stderr


def test_an_interrupted_upload_stays_and_the_command_that_goes_on_is_told(
    run_cli, running, large, monkeypatch, last_json
):
    @contextmanager
    def interrupted(*_, **__):
        def show(num_bytes, _):
            if num_bytes >= 10:
                raise KeyboardInterrupt

        yield show

    with monkeypatch.context() as patched:
        patched.setattr("service.cli.dataset_uploads.transfer", interrupted)
        result = run_cli("datasets", "add", large, "--name", "pets", "--server", running)
    assert result.exit_code == 130
    command = shlex.split(next(line for line in result.stderr.splitlines() if "--resume" in line))
    assert command[:4] == ["archprior", "datasets", "add", str(large)]
    waiting = run_cli("datasets", "show", command[5], "--server", running)
    assert ("UPLOADING" in waiting.stdout, f"--resume {command[5]}" in waiting.stdout) == (True, True)
    assert command[5] in run_cli("datasets", "list", "--state", "UPLOADING", "--server", running).stdout
    view = DatasetView.model_validate(last_json(run_cli(*command[1:], "--json")))
    assert (view.id, view.state, view.name) == (command[5], "READY", "pets")
    assert command[5] not in run_cli("datasets", "list", "--state", "UPLOADING", "--server", running).stdout


def test_another_file_is_not_resumed(run_cli, running, large, last_json, tmp_path):
    added = last_json(run_cli("datasets", "add", large, "--server", running, "--json"))
    (tmp_path / "other.zip").write_bytes(b"PK")
    result = run_cli("datasets", "add", tmp_path / "other.zip", "--resume", added["id"], "--server", running)
    assert (result.exit_code, "not the file of dataset" in result.stderr) == (2, True)


def test_what_was_said_at_the_beginning_is_not_said_again(run_cli, running, large):
    result = run_cli("datasets", "add", large, "--resume", "ds1", "--name", "pets", "--server", running)
    assert (result.exit_code, "Leave out --name" in result.stderr) == (2, True)


def test_a_large_file_that_is_no_zip_is_told_after_the_check(run_cli, running, large, last_json):
    large.write_bytes(b"no" * 20)
    result = run_cli("datasets", "add", large, "--server", running, "--json")
    assert (result.exit_code, last_json(result)["error"]["code"]) == (1, "invalid_dataset")
    assert "--resume" not in result.stderr
    (rejected, *_) = last_json(run_cli("datasets", "list", "--state", "REJECTED", "--server", running, "--json"))[
        "items"
    ]
    shown = run_cli("datasets", "show", rejected["id"], "--server", running)
    assert ("the dataset is no zip" in shown.stdout, "Zip it." in shown.stdout) == (True, True)


def test_a_dataset_is_copied_by_the_service(run_cli, running, last_json):
    result = run_cli(
        "datasets", "copy", "s3://bucket/pets.zip", "--name", "pets", "--terms", "CC0", "--server", running, "--json"
    )
    view = DatasetView.model_validate(last_json(result))
    assert (view.state, view.name, view.terms, view.source) == ("READY", "pets", "CC0", "s3://bucket/pets.zip")
    refused = run_cli("datasets", "copy", "", "--server", running)
    assert (refused.exit_code, "--source" in refused.stderr) == (2, True)


def test_a_dataset_is_shown_with_what_its_check_has_found(added, run_cli, running, last_json, tmp_path):
    added()
    picture = tmp_path / "some.jpg"
    shown = run_cli("datasets", "show", "ds1", "--thumbnails", picture, "--server", running)
    assert shown.exit_code == 0
    for part in (
        "7 in 2 classes",
        "b/7.png repeats a/1.png",
        "1 of them across classes",
        "near-empty",
        "train 4, val 1",
    ):
        assert part in shown.stdout
    assert picture.read_bytes() == b"\xff\xd8 the picture"
    told = DatasetView.model_validate(last_json(run_cli("datasets", "show", "ds1", "--server", running, "--json")))
    assert told.findings.near_empty == {"a": 3}


def test_a_dataset_is_deleted(added, run_cli, running, last_json):
    added()
    assert last_json(run_cli("datasets", "delete", "ds1", "--server", running, "--json")) == {"deleted": "ds1"}
    assert run_cli("datasets", "delete", "ds1", "--server", running).exit_code == 1
