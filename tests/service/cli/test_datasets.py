"""`archprior datasets` against a service that tells what it was sent."""

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


@pytest.mark.parametrize("command", ["allow", "forbid"])
def test_an_unknown_dataset_is_an_error(run_cli, running, last_json, command):
    result = run_cli("datasets", command, "nobody", "--server", running, "--json")
    assert (result.exit_code, last_json(result)["error"]["code"]) == (1, "not_found")


def test_a_path_without_data_is_refused_at_once(run_cli, running):
    result = run_cli("datasets", "add", "no/such.zip", "--server", running)
    assert (result.exit_code, "no such dataset" in result.stderr) == (2, True)
