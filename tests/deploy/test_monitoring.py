"""The profiles of docker-compose.yml without their containers: names that must meet, and what promtool says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import ray
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.engine import make_url

from service.metrics import QUEUED, DeliveryMetrics, GcMetrics, RequestMetrics, exposition
from service.records.counts import UNFINISHED
from service.records.database import is_shared
from service.schemas import AdaptationState
from workers.meta.metrics import DESCRIPTIONS, TAGS

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
BOARDS = sorted((MONITORING / "grafana" / "boards").glob("*.json"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
PROMETHEUS = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
ALERTS = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
RAY = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics"
META = {f"ray_archprior_meta_{name}": {"meta_run", *TAGS.get(name, ())} for name in DESCRIPTIONS}
WORDS = {"and", "or", "unless", "offset", "by", "on"}


@cache
def exposed() -> dict[str, set[str]]:
    """The labels of every metric of the service, by the names of its samples."""
    requests = RequestMetrics()
    requests.note("GET", "/v1/datasets", 200, 0.1)
    work = {row.__tablename__: dict.fromkeys(states, 1) for row, states in UNFINISHED.items()}
    families = text_string_to_metric_families(exposition(requests, DeliveryMetrics(), GcMetrics(), work).decode())
    samples = [sample for family in families for sample in family.samples]
    return {one.name: {label for same in samples if same.name == one.name for label in same.labels} for one in samples}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield path.stem, panel


def queries() -> Iterator[tuple[str, str]]:
    for board, panel in panels():
        for target in panel["targets"]:
            yield f"{board}: {panel['title']}", target["expr"]
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]


def metrics_of(query: str) -> set[str]:
    for aside in (r"\{[^}]*\}", r"\[[^\]]*\]", r"\b(by|on)\s*\([^)]*\)"):
        query = re.sub(aside, "", query)
    return set(re.findall(r"\b[A-Za-z_]\w*\b(?!\s*\()", query)) - WORDS


def test_metrics_are_found_in_a_query() -> None:
    query = 'sum by (le) (rate(a_bucket{job="x"}[5m])) > 20 and on (kind) clamp_min(b offset 1h, 0)'
    assert metrics_of(query) == {"a_bucket", "b"}


@pytest.mark.parametrize(("where", "query"), list(queries()), ids=[where for where, _ in queries()])
def test_every_metric_of_a_query_is_one_that_somebody_gives(where: str, query: str) -> None:
    # Ray's own boards name what its nodes give.
    of_ray = set(re.findall(r"\bray_\w+", (RAY / "dashboards" / "default_dashboard_panels.py").read_text()))
    found = metrics_of(query)
    assert found
    assert found <= {*META, *exposed(), *of_ray, "up"}


def test_boards_ask_by_labels_that_their_metrics_have() -> None:
    labels = {**META, **exposed()}
    for board, panel in panels():
        for target in panel["targets"]:
            known = [labels[name] for name in metrics_of(target["expr"]) if name in labels]
            if known:
                asked = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                asked |= set(re.findall(r"(\w+)=~?\"", target["expr"]))
                assert asked <= set.union(*known) | {"job", "instance"}, f"{board}: {panel['title']}"


def test_every_number_of_a_meta_run_has_a_panel() -> None:
    shown = {
        name for board, panel in panels() if board == "meta_run" for name in metrics_of(panel["targets"][0]["expr"])
    }
    assert shown == set(META)


def test_queries_name_kinds_and_states_that_there_are() -> None:
    text = " ".join(query for _, query in queries())
    assert set(re.findall(r'kind="(\w+)"', text)) == {row.__tablename__ for row in UNFINISHED}
    assert set(re.findall(r'state="(\w+)"', text)) == {QUEUED}
    assert QUEUED in get_args(AdaptationState)


def test_boards_are_told_apart_and_ask_the_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    boards = [json.loads(path.read_text()) for path in BOARDS]
    assert len({board["uid"] for board in boards}) == len(BOARDS) == 3
    assert {panel["datasource"]["uid"] for _, panel in panels()} == {sources[0]["uid"]}
    for board in boards:
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert sources[0]["url"] == "http://prometheus:9090"
    # Ray's boards look for their source by this name.
    assert f'DEFAULT_PROMETHEUS_NAME = "{sources[0]["name"]}"' in (RAY / "metrics_head.py").read_text()


def test_targets_are_services_of_the_compose_file_at_ports_where_they_listen() -> None:
    jobs = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
    [discovery] = jobs["ray"]["dns_sd_configs"]
    for name in discovery["names"]:
        assert f"--metrics-export-port={discovery['port']}" in SERVICES[name]["command"]
    [target] = jobs["archprior"]["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    assert f"--port {port}" in SERVICES[name]["command"]
    assert jobs["archprior"]["authorization"]["credentials_file"] in " ".join(SERVICES["prometheus"]["entrypoint"])
    assert {target.partition(":")[0] for target in jobs["ray-head"]["static_configs"][0]["targets"]} <= set(SERVICES)


def test_rays_dashboard_finds_grafana_and_grafana_finds_rays_boards() -> None:
    head, source = SERVICES["ray-head"], (RAY / "metrics_head.py").read_text()
    shown = {name: value for name, value in head["environment"].items() if "GRAFANA" in name or "PROMETHEUS" in name}
    assert len(shown) == 4
    for name in shown:
        assert f'"{name}"' in source
    assert shown["RAY_PROMETHEUS_HOST"] == "http://prometheus:9090"
    assert shown["RAY_GRAFANA_HOST"] == "http://grafana:3000"
    written = shown["RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR"]
    assert f"boards:{written}" in head["volumes"]
    assert written in (ROOT / "deploy" / "Dockerfile").read_text()  # else the volume is root's
    folders = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/boards.yml").read_text())["providers"]
    mounted = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}
    assert {folder["options"]["path"] for folder in folders} <= mounted


def test_profiles_add_what_nobody_else_waits_for_and_are_seen_from_this_machine_only() -> None:
    extra = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert extra == {"postgres": ["postgres"], "prometheus": ["monitoring"], "grafana": ["monitoring"]}
    for name, service in SERVICES.items():
        if name not in extra:
            assert not set(service.get("depends_on", {})) & set(extra)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists()
    for name in extra:
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_records_in_postgresql_are_named_without_a_password() -> None:
    found = re.search(r"ARCHPRIOR_DATABASE_URL=(\S+)", (ROOT / "docker-compose.yml").read_text())
    assert found is not None
    url = found[1]
    assert is_shared(url)
    parsed, postgres = make_url(url), SERVICES["postgres"]
    assert (parsed.username, parsed.host) == (postgres["environment"]["POSTGRES_USER"], "postgres")
    assert parsed.database == postgres["environment"]["POSTGRES_DB"]
    secrets = (ROOT / "deploy" / "make-secrets.sh").read_text()
    assert str(parsed.query["passfile"]) in secrets
    assert Path(postgres["environment"]["POSTGRES_PASSWORD_FILE"]).name in secrets


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")
def test_promtool_accepts_the_configuration_and_the_alerts_tell_what_they_should(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("none")
    folder = tmp_path / "monitoring"
    shutil.copytree(MONITORING, folder)
    configuration = folder / "prometheus.yml"
    configuration.write_text(configuration.read_text().replace("/tmp/key", str(key)))
    _run("promtool", "check", "config", str(configuration))
    _run("promtool", "test", "rules", str(Path(__file__).with_name("alerts.test.yml")))


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--profile", "monitoring"),
        ("--profile", "postgres"),
        ("-f", "docker-compose.yml", "-f", "docker-compose.gpu.yml"),
    ],
    ids=["plain", "monitoring", "postgres", "gpu"],
)
def test_docker_compose_accepts_the_files(options: tuple[str, ...]) -> None:
    _run("docker-compose", *options, "config", "--quiet")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
