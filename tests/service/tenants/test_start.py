import json
import logging
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from search_spaces.errors import InvalidOptionError
from service.cli.main import app
from service.parts import running
from service.ray.cluster import open_cluster
from service.settings import Settings

BEYOND = "0.0.0.0"


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs the command line on a data folder; `serve` gets as far as listening."""
    monkeypatch.setitem(sys.modules, "service.app", SimpleNamespace(create_app=lambda settings: settings))
    monkeypatch.setattr("service.cli.serve.exit_on_signals", lambda: None)  # these are the whole process's
    monkeypatch.setattr("service.cli.listening.run", lambda app, host, *_: typer.echo(f"listens at {host}"))

    def run(*arguments):
        return CliRunner(env={"NO_COLOR": "1"}).invoke(app, [*arguments, "--data-dir", str(tmp_path)])

    return run


def test_without_keys_a_service_does_not_listen_beyond_this_machine_and_says_how_to_make_one(cli, tmp_path):
    refused = cli("serve", "--host", BEYOND)
    assert refused.exit_code == 2
    assert "archprior keys create" in refused.stderr
    assert "ARCHPRIOR_ALLOW_OPEN" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    assert "listens at 127.0.0.1" in cli("serve").stdout


def test_with_a_key_it_does_until_that_is_revoked(cli):
    key_id = json.loads(cli("keys", "create", "--owner", "ann", "--json").stdout)["id"]
    assert f"listens at {BEYOND}" in cli("serve", "--host", BEYOND).stdout
    cli("keys", "revoke", key_id)
    assert cli("serve", "--host", BEYOND).exit_code == 2


def test_keys_can_be_made_with_the_settings_of_a_service_beyond_this_machine(cli, monkeypatch):
    monkeypatch.setenv("ARCHPRIOR_HOST", BEYOND)
    assert cli("keys", "create", "--owner", "ann").exit_code == 0
    assert f"listens at {BEYOND}" in cli("serve").stdout


def test_a_word_opens_it_without_keys(cli, monkeypatch):
    monkeypatch.setenv("ARCHPRIOR_ALLOW_OPEN", "1")
    assert f"listens at {BEYOND}" in cli("serve", "--host", BEYOND).stdout


def test_whoever_runs_the_application_otherwise_is_refused_too(tmp_path):
    parts = running(Settings(data_dir=tmp_path, host=BEYOND), open_cluster)
    with pytest.raises(InvalidOptionError, match="keys create"), parts:
        pass


@contextmanager
def told(new_service, tmp_path, caplog, **settings):
    caplog.set_level(logging.INFO)
    with new_service(tmp_path, **settings) as service:
        yield service, caplog


def test_an_open_service_warns_at_each_start(new_service, tmp_path, caplog):
    for _ in range(2):
        caplog.clear()
        with told(new_service, tmp_path, caplog, host=BEYOND, allow_open=True) as (service, log):
            assert service.client.get("/v1/datasets").status_code == 200
            assert [record.levelname for record in log.records if "ALLOW_OPEN" in record.message] == ["WARNING"]
            assert "everyone who reaches" in log.text


def test_a_service_with_keys_says_so_and_asks_for_one_although_it_may_be_open(new_service, tmp_path, caplog):
    with new_service(tmp_path) as service:
        service.parts.keys.create(owner="ann", role="user")
    with told(new_service, tmp_path, caplog, host=BEYOND, allow_open=True) as (service, log):
        assert service.client.get("/v1/datasets").status_code == 401
        assert "whoever has a key" in log.text
        assert "ALLOW_OPEN" not in log.text


def test_a_service_beyond_this_machine_does_not_open_when_its_last_key_is_revoked(new_service, tmp_path):
    with new_service(tmp_path) as service:
        key, token = service.parts.keys.create(owner="ann", role="user")
    with new_service(tmp_path, host=BEYOND) as service:
        service.client.headers["Authorization"] = f"Bearer {token}"
        assert service.client.get("/v1/datasets").status_code == 200
        service.parts.keys.revoke(key.id)
        assert service.client.get("/v1/datasets").status_code == 401
