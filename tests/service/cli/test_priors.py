"""`archprior priors` against a service that keeps what it is sent."""

import json

import pytest

from service.schemas import MetaRunView, PriorView, PromotionPage
from workers.priors.registry import bundled_cards


@pytest.fixture
def priors(run_cli, running):
    def priors(*arguments):
        return run_cli("priors", *arguments, "--server", running)

    return priors


def test_without_a_server_the_bundled_priors_are_listed(run_cli, last_json):
    views = [PriorView.model_validate(view) for view in last_json(run_cli("priors", "--json"))]
    assert {view.card.id for view in views} == bundled_cards().keys()
    assert all(view.bundled for view in views)
    text = run_cli("priors").stdout
    assert all(prior_id in text for prior_id in bundled_cards())


def test_with_a_server_its_priors_are_listed_and_the_default_is_marked(priors, last_json):
    priors("promote", "base-v1")
    views = {view["card"]["id"]: view for view in last_json(priors("--json"))}
    assert {"base-v1", "made"} <= views.keys()
    assert [one for one, view in views.items() if view["default"]] == ["base-v1"]
    (line,) = [line for line in priors().stdout.splitlines() if "base-v1" in line]
    assert line.split()[:2] == ["base-v1", "yes"]


def test_options_before_a_sub_command_are_not_swallowed(run_cli, running):
    result = run_cli("priors", "--server", running, "show", "made")
    assert (result.exit_code, "Put them after `priors show`" in result.stderr) == (2, True)


def test_show_tells_what_a_prior_is(priors, last_json):
    text = priors("show", "made")
    assert text.exit_code == 0
    for part in ("made", "|the mode|", "1,234 at 16, 32 pixels", "52.0%", "prior.safetensors", "7 bytes"):
        assert part in text.stdout
    assert PriorView.model_validate(last_json(priors("show", "made", "--json"))).card.num_steps == 1234


def test_a_promoted_prior_is_the_default(priors, last_json):
    assert last_json(priors("promote", "made", "--json"))["default"] is True
    assert last_json(priors("show", "base-v1", "--json"))["default"] is False
    assert "gets base-v1 from now on" in priors("promote", "base-v1").stdout


def test_promotions_are_listed_in_parts(priors, last_json):
    priors("promote", "made")
    shown = priors("promotions", "--limit", 2)
    assert shown.exit_code == 0, shown.output
    assert [line.split()[1:] for line in shown.stdout.splitlines() if "made" in line] == [
        ["nas_bench_201", "made", "local"]
    ] * 2
    assert "--cursor 7" in shown.stderr
    page = PromotionPage.model_validate(last_json(priors("promotions", "--limit", 3, "--cursor", "7", "--json")))
    assert (len(page.items), page.next_cursor) == (3, "4")


def test_a_prior_is_imported_downloaded_and_deleted(priors, last_json, own_prior, tmp_path):
    imported = priors("import", own_prior, "--id", "renamed", "--json")
    assert imported.exit_code == 0, imported.output
    assert last_json(imported)["card"]["id"] == "renamed"
    fetched = priors("download", "renamed", "--out", tmp_path / "copy", "--json")
    assert fetched.exit_code == 0, fetched.output
    assert (tmp_path / "copy" / "prior.safetensors").read_bytes() == b"own tensors"
    assert json.loads((tmp_path / "copy" / "card.json").read_text())["id"] == "renamed"
    assert "renamed" in priors("import", tmp_path / "copy").stdout  # what was downloaded can be handed in
    assert last_json(priors("delete", "renamed", "--json")) == {"deleted": "renamed"}
    assert priors("show", "renamed").exit_code == 1


def test_the_default_is_not_deleted(priors):
    priors("promote", "base-v1")
    result = priors("delete", "base-v1")
    assert (result.exit_code, result.stderr) == (1, "error: prior base-v1 is the default\n")


def test_a_prior_that_is_not_whole_is_not_sent(priors, own_prior, tmp_path):
    (own_prior / "prior.safetensors").write_bytes(b"other")
    result = priors("import", own_prior, "--id", "never")
    assert (result.exit_code, "does not match its card" in result.stderr) == (1, True)
    assert priors("show", "never").exit_code == 1
    empty = priors("import", tmp_path)
    assert (empty.exit_code, "no prior in this folder" in empty.stderr) == (2, True)


def test_compare_asks_for_the_same_tasks_and_says_how_to_follow(priors, last_json):
    result = priors("compare", "made", "base-v1", "--dataset", "a", "--dataset", "b:2", "--num-tasks", 9, "--json")
    assert result.exit_code == 0, result.output
    request = MetaRunView.model_validate(last_json(result)).request
    assert (request.kind, request.priors, request.num_tasks) == ("compare", ("made", "base-v1"), 9)
    assert [(one.dataset_id, one.weight) for one in request.datasets] == [("a", None), ("b", 2.0)]
    assert "archprior meta-runs follow" in priors("compare", "made", "base-v1", "--dataset", "a").stdout


def test_a_followed_comparison_ends_with_a_table_of_intervals(priors):
    result = priors("compare", "base-v1", "made", "--dataset", "a", "--follow")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines() if "% ±" in line]
    assert rows == [
        ["base-v1", "2", "40.0%", "±", "3.1%", "50.0%", "±", "2.9%"],
        ["made", "2", "45.0%", "±", "3.1%", "55.0%", "±", "2.9%"],
    ]
    # Gaps of -7 and -3 points: mean -5, standard deviation sqrt(8), so 1.96 * sqrt(8) / sqrt(2) = 3.92.
    assert "base-v1 against made on the same tasks, after 4 steps: -5.0 ± 3.9 points" in result.stdout
    assert "promote" not in result.stdout
    assert "/ 100" not in result.stderr  # no steps are taken


def test_one_prior_cannot_be_compared(priors):
    result = priors("compare", "made", "--dataset", "a")
    assert (result.exit_code, "--priors" in result.stderr) == (2, True)
