import json

import pytest

from search_spaces.registry import SPACES


def adapt(run_cli, data, running, name, *options):
    return run_cli("adapt", data, "--server", running, "--name", name, *options)


def test_json_ends_with_one_line_that_holds_everything(run_cli, last_json, running, archive, tmp_path):
    result = adapt(run_cli, archive, running, "works", "--out", tmp_path / "out", "--seed", 3, "--json")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 1
    document = last_json(result)
    assert document["state"] == "SUCCEEDED"
    assert document["seed"] == 3
    assert document["architecture"]["arch"].startswith("|nor_conv_3x3~0|+")
    assert document["metrics"] == {"accuracy": 0.975, "num_test": 360, "seed": 3}
    assert document["cost"] == {"params": 802_426, "macs": 113_951_360}
    assert document["timings_s"] == {"staging": 1.25, "searching": 30.0, "total": 31.25}
    expected = {name: str(tmp_path / "out" / name) for name in ("architecture.json", "metrics.json")}
    assert expected.items() <= document["artifacts"].items()
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == bytes(range(256))
    assert result.stderr == ""  # no terminal, so no progress


def test_text_tells_what_was_found_and_where_it_lies(run_cli, running, archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = adapt(run_cli, archive, running, "works")
    assert result.exit_code == 0, result.output
    space = SPACES["nas_bench_201"]
    (fetched,) = tmp_path.glob("archprior-out/*/architecture.json")
    drawing = space.draw_text(space.parse(json.loads(fetched.read_text())))
    for part in (
        drawing,
        "97.5% of 360 test images (95 % interval 95.3% to 98.7%)",
        "802,426",
        "113,951,360",
        "Searching beat the prior's mode by 2.0 points.",
        "The budget ended the search early.",
        "31.2",
    ):
        assert part in result.stdout
    (folder,) = (tmp_path / "archprior-out").iterdir()
    assert str(folder / "weights.safetensors") in result.stdout
    for part in ("searching", "50%", "ETA 0:00:42", "best so far 87.6%"):
        assert part in result.stderr


def test_quiet_shows_no_progress(run_cli, running, archive, tmp_path):
    result = adapt(run_cli, archive, running, "works", "--out", tmp_path, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_dataset_id_is_not_uploaded(run_cli, last_json, running, tmp_path):
    result = adapt(run_cli, "ds-of-the-server", running, "works", "--out", tmp_path, "--json")
    listed = run_cli("list", "--server", running, "--json")
    assert result.exit_code == 0, result.output
    asked = {item["id"]: item["request"] for item in last_json(listed)["items"]}
    assert asked[last_json(result)["id"]]["dataset_id"] == "ds-of-the-server"


def test_every_option_reaches_the_service(run_cli, last_json, running, archive, tmp_path):
    options = {
        "--search-space": "nas_bench_201",
        "--prior": "none",
        "--search": "random",
        "--budget": "33.5",
        "--max-params": "900000",
        "--max-macs": "200000000",
        "--resolution": "24",
        "--num-channels": "48",
        "--num-workers": "0",
        "--seed": "9",
    }
    flat = [part for pair in options.items() for part in pair]
    result = adapt(run_cli, archive, running, "works", "--out", tmp_path, "--json", *flat)
    status = run_cli("status", last_json(result)["id"], "--server", running, "--json")
    assert last_json(status)["request"] == {
        "dataset_id": "ds1",
        "name": "works",
        "search_space": "nas_bench_201",
        "prior": "none",
        "search": "random",
        "architecture": None,
        "budget_s": 33.5,
        "max_params": 900_000,
        "max_macs": 200_000_000,
        "resolution": 24,
        "num_channels": 48,
        "num_workers": 0,
        "seed": 9,
    }


def test_an_architecture_is_enough_to_say_that_nothing_is_searched(run_cli, last_json, running, archive, tmp_path):
    cell = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
    result = adapt(run_cli, archive, running, "works", "--out", tmp_path, "--json", "--architecture", cell)
    status = run_cli("status", last_json(result)["id"], "--server", running, "--json")
    request = last_json(status)["request"]
    assert (request["search"], request["architecture"]) == ("given", cell)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("fails", "limit_unreachable", "got 5 parameters; expected at least 4,321. Raise --max-params."),
        ("is cancelled", "cancelled", "was cancelled"),
        ("damaged", "bad_download", "does not match its hash"),
    ],
)
def test_a_bad_end_is_told_to_people_and_to_programs(run_cli, last_json, running, archive, tmp_path, name, code, text):
    result = adapt(run_cli, archive, running, name, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert last_json(result)["error"]["code"] == code
    assert text in result.stderr
    assert result.stderr.startswith("error: ")
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_a_refused_dataset_is_told(run_cli, running, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    result = adapt(run_cli, path, running, "works")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "error: the dataset is no zip. Zip it.")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--budget", "1"), "--budget-s: Input should be greater than or equal to 5, got 1.0"),
        (("--resolution", "4000", "--seed", "-1"), "--seed: Input should be greater than or equal to 0, got -1"),
        (("--data-dir", "x"), "--data-dir is for a service of one's own"),
        (("--search", "magic"), "magic"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(run_cli, running, archive, options, text):
    result = adapt(run_cli, archive, running, "works", *options)
    assert result.exit_code == 2
    assert text in result.stderr
    assert "Traceback" not in result.output


def test_an_out_that_is_a_file_is_refused_at_once(run_cli, running, archive):
    result = adapt(run_cli, archive, running, "works", "--out", archive)
    assert (result.exit_code, archive.read_bytes()[:2]) == (2, b"PK")


def test_a_prior_of_ones_own_is_handed_in_and_named(run_cli, last_json, running, archive, own_prior, tmp_path):
    result = adapt(run_cli, archive, running, "works", "--prior", own_prior, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    status = run_cli("status", last_json(result)["id"], "--server", running, "--json")
    assert last_json(status)["request"]["prior"] == "own-v1"
    assert run_cli("priors", "show", "own-v1", "--server", running).exit_code == 0


def test_no_service_at_the_address(run_cli, last_json, archive, monkeypatch):
    monkeypatch.setattr("service.client.retries.RetryPolicy.delay_s", lambda *_: None)
    result = run_cli("adapt", archive, "--server", "http://127.0.0.1:9", "--json")
    assert result.exit_code == 1
    assert last_json(result)["error"]["code"] == "service_unreachable"
