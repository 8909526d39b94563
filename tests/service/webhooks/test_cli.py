"""`archprior webhooks` against a real service and a real receiver."""

import json

import pytest
from typer.testing import CliRunner

from service.cli.main import app


@pytest.fixture(scope="module")
def near(tmp_path_factory, new_service):
    with new_service(tmp_path_factory.mktemp("near") / "data", webhook_private_addresses=True) as one:
        yield one


@pytest.fixture
def run(near):
    def invoke(*arguments):
        server = ("--server", str(near.client.base_url))
        return CliRunner(env={"NO_COLOR": "1"}).invoke(app, ["webhooks", *arguments, *server])

    return invoke


def test_a_webhook_is_added_tried_listed_and_removed(run, receiver):
    receiver.statuses = [204, 500]
    added = run("add", receiver.url, "--kind", "dataset.ready", "--kind", "dataset.rejected", "--json")
    view = json.loads(added.stdout)
    assert view["kinds"] == ["dataset.ready", "dataset.rejected"]
    taken, refused = run("test", view["id"]), run("test", view["id"], "--json")
    assert (taken.exit_code, "taken, with status 204" in taken.stdout) == (0, True)
    assert (refused.exit_code, json.loads(refused.stdout)["last_status"]) == (1, 500)
    listed = run("deliveries", view["id"])
    assert "given up: a refusal: status 500" in listed.stdout
    assert len(json.loads(run("deliveries", view["id"], "--json").stdout)["items"]) == 2
    assert receiver.url in run("list").stdout
    assert json.loads(run("list", "--json").stdout)["items"][0]["id"] == view["id"]
    assert run("remove", view["id"]).exit_code == 0
    assert json.loads(run("list", "--json").stdout)["items"] == []
    again = run("remove", view["id"])
    assert (again.exit_code, view["id"] in again.stderr) == (1, True)


def test_the_secret_is_shown_alone_so_that_a_script_can_take_it(run):
    added = run("add", "http://127.0.0.1:9/hook")
    assert added.stdout.startswith("whsec_")
    assert len(added.stdout.splitlines()) == 1
    assert "Webhook wh-" in added.stderr


def test_a_url_that_cannot_be_is_told(run):
    failed = run("add", "ftp://lab.example/", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout.splitlines()[-1])["error"]["errors"] == ["url: its scheme is not https"]


def test_an_unknown_kind_is_told_with_the_known_ones(run):
    failed = run("add", "https://lab.example/", "--kind", "adaptation.lost")
    assert failed.exit_code == 2
    assert "adaptation.succeeded" in failed.stderr
