"""The manifests for Kubernetes, checked without one: schemas, names that must meet, and what must not be in them.

kubectl's own kustomize builds them. Kubernetes' JSON schemas judge them, and `raycluster.schema.json` RayCluster's own
fields.
"""

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from tests.deploy.manifests import BUILDS, KUBECTL, KUBERNETES, ROOT, Object, Pod, build, of_kind, pods
from workers.store.options import PREFIX, S3Options
from workers.training.threads import WAITING

VERSION = "1.34"
OVERLAYS = ("overlays/local", "overlays/cloud")
SCHEMA = json.loads((Path(__file__).parent / "raycluster.schema.json").read_text())
# What KubeRay and the overlays' own commands make.
MADE_ELSEWHERE = {("archprior-ray", "auth_token")}
ASKED_FOR = {
    "archprior-database": {"url"},
    "archprior-postgres": {"password"},
    "archprior-redis": {"password"},
}
AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
BEYOND = {"kube-system", "monitoring"}

built = cache(build)


def named(objects: list[Object], kind: str, name: str) -> Object:
    return next(one for one in of_kind(objects, kind) if one["metadata"]["name"] == name)


def environment(objects: list[Object], container: Object) -> dict[str, str | None]:
    """The variables of a container; None: a secret's."""
    found: dict[str, str | None] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= named(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {one["name"]: one.get("value") for one in container.get("env", [])}


def own(objects: list[Object]) -> list[tuple[Pod, Object]]:
    return [(pod, container) for pod in pods(objects) for container in pod.own_containers]


@pytest.mark.parametrize("folder", BUILDS)
def test_every_object_is_one_of_kubernetes(folder: str) -> None:
    for one in built(folder):
        if one["kind"] != "RayCluster":
            kubernetes_validate.validate(one, VERSION, strict=True)


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_ray_cluster_has_kuberays_fields_and_kubernetes_pods(folder: str) -> None:
    cluster = of_kind(built(folder), "RayCluster")[0]
    jsonschema.validate(cluster, SCHEMA)
    for pod in pods([cluster]):
        # KubeRay hands templates on as they are.
        wrapped = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": pod.name}, "template": pod.template}
        kubernetes_validate.validate(wrapped, VERSION, strict=True)
    options = cluster["spec"]["autoscalerOptions"]
    container = {name: options[name] for name in ("resources", "securityContext")} | {"name": "autoscaler"}
    autoscaler = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "head"}, "spec": {"containers": [container]}}
    kubernetes_validate.validate(autoscaler, VERSION, strict=True)


@pytest.mark.parametrize(
    "mend",
    [
        lambda spec: spec["authOptions"].update(mode="tokens"),
        lambda spec: spec["gcsFaultToleranceOptions"].pop("redisAddress"),
        lambda spec: spec["workerGroupSpecs"][0].update(maxReplica=3),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
    ],
    ids=["mode", "redisAddress", "maxReplica", "num-cpus"],
)
def test_a_wrong_field_of_the_ray_cluster_is_noticed(mend: Callable[[Any], None]) -> None:
    cluster = of_kind(build("overlays/local"), "RayCluster")[0]
    mend(cluster["spec"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster, SCHEMA)


def test_a_wrong_field_of_a_pod_is_noticed() -> None:
    deployment = named(build("overlays/local"), "Deployment", "archprior-service")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSION, strict=True)


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_ray_cluster_is_shut_scales_and_outlives_its_head(folder: str) -> None:
    spec = of_kind(built(folder), "RayCluster")[0]["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["enableInTreeAutoscaling"]
    assert spec["gcsFaultToleranceOptions"]["redisAddress"]
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray=="))
    assert spec["rayVersion"] == pinned.removeprefix("ray==")
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    for group in groups.values():
        assert group["minReplicas"] <= group["maxReplicas"]
        assert "replicas" not in group  # applied again, it would take workers away
    assert groups["cpu"]["minReplicas"] >= 1
    limits = groups["gpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("folder", OVERLAYS)
def test_two_replicas_of_the_service_share_records_and_a_store_and_nothing_else(folder: str) -> None:
    objects = built(folder)
    deployment = named(objects, "Deployment", "archprior-service")
    assert deployment["spec"]["replicas"] == 2
    spec = deployment["spec"]["template"]["spec"]
    variables = environment(objects, spec["containers"][0])
    assert {"ARCHPRIOR_DATABASE_URL", "ARCHPRIOR_RAY_ADDRESS", "ARCHPRIOR_STORE_URL"} <= set(variables)
    assert "ARCHPRIOR_ALLOW_OPEN" not in variables  # it needs keys
    assert {"name": "data", "emptyDir": {}} in spec["volumes"]
    budgets = [one["spec"] for one in of_kind(objects, "PodDisruptionBudget")]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert any(one["minAvailable"] == 1 and one["selector"]["matchLabels"].items() <= labels.items() for one in budgets)


@pytest.mark.parametrize("folder", BUILDS)
def test_variables_are_settings_of_the_service_of_its_store_of_ray_or_of_aws(folder: str) -> None:
    fields = {f"ARCHPRIOR_{name.upper()}" for name in Settings.model_fields}
    store = {f"{PREFIX}{name.upper()}" for name in S3Options.__dataclass_fields__} | {f"{PREFIX}ENDPOINT_URL"}
    objects = built(folder)
    for pod, container in own(objects):
        for name in environment(objects, container):
            known = name in fields | store | AWS | set(WAITING) or name.startswith("RAY_")
            assert known, f"{pod.name} sets {name}"


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_service_accepts_its_variables(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = built(folder)
    container = named(objects, "Deployment", "archprior-service")["spec"]["template"]["spec"]["containers"][0]
    for name, value in environment(objects, container).items():
        monkeypatch.setenv(name, value or {"ARCHPRIOR_DATABASE_URL": "postgresql+psycopg://a:b@c/d"}.get(name, "token"))
    arguments = dict(zip(container["args"][2::2], container["args"][3::2], strict=True))
    settings = Settings(host=arguments["--host"], data_dir=arguments["--data-dir"])
    assert not settings.may_be_open
    assert settings.ray_token is not None


def test_variables_are_those_of_docker_compose() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    data = named(built("overlays/local"), "ConfigMap", "archprior-environment")["data"]
    assert WAITING.items() <= data.items()
    # Secrets are said otherwise, and here a node that is to go is drained.
    otherwise = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"}
    otherwise |= {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"}
    assert set(data) == set(compose["worker"]["environment"]) - otherwise
    for name, value in data.items():
        if name.startswith("RAY_"):
            assert value == compose["worker"]["environment"][name]


@pytest.mark.parametrize("folder", BUILDS)
def test_secrets_are_named_and_never_told(folder: str) -> None:
    objects = built(folder)
    assert not of_kind(objects, "Secret")
    for pod in pods(objects):
        for container in pod.containers:
            for one in container.get("env", []):
                if any(word in one["name"] for word in ("PASSWORD", "TOKEN", "SECRET", "KEY", "DATABASE_URL")):
                    reference = one["valueFrom"]["secretKeyRef"]
                    asked = (reference["name"], reference["key"])
                    assert asked in MADE_ELSEWHERE or asked[1] in ASKED_FOR[asked[0]]
    for one in of_kind(objects, "ConfigMap"):
        assert not {name for name in one["data"] if any(word in name for word in ("PASSWORD", "TOKEN", "SECRET"))}
        assert not any("@" in value for value in one["data"].values())


def test_the_script_makes_every_secret_of_the_local_overlay_at_random(tmp_path: Path) -> None:
    first, second = _secrets(tmp_path / "first"), _secrets(tmp_path / "second")
    assert {name: set(data) for name, data in first.items()} == {
        **ASKED_FOR,
        "archprior-store": AWS - {"AWS_DEFAULT_REGION"},
    }
    password = first["archprior-postgres"]["password"]
    assert first["archprior-database"]["url"] == f"postgresql+psycopg://archprior:{password}@postgres/archprior"
    told = [data for secrets in (first, second) for name, data in secrets.items() if name != "archprior-database"]
    values = [value for data in told for value in data.values()]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values)


def _secrets(folder: Path) -> dict[str, dict[str, str]]:
    """What the script makes where there is nothing yet. No cluster is asked: kubectl only says what it would make."""
    folder.mkdir()
    stand_in = folder / "kubectl"
    refuse = 'case "$*" in *"get secret"*) exit 1 ;; esac'
    stand_in.write_text(f'#!/bin/sh\n{refuse}\necho ---\nexec {KUBECTL} "$@" --dry-run=client --output=yaml\n')
    stand_in.chmod(0o755)
    done = subprocess.run(
        [str(KUBERNETES / "create-secrets.sh")],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    made = [one for one in yaml.safe_load_all(done.stdout) if one]
    assert {one["metadata"]["namespace"] for one in made} == {"archprior"}
    return {
        one["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in one["data"].items()}
        for one in made
    }


@pytest.mark.parametrize("folder", BUILDS)
def test_the_project_has_one_image_in_one_version(folder: str) -> None:
    images = {container["image"] for _, container in own(built(folder))}
    assert len(images) == 1
    everything = {container["image"] for pod in pods(built(folder)) for container in pod.containers}
    assert all(":" in image for image in everything)


@pytest.mark.parametrize("folder", BUILDS)
def test_pods_are_nobody_and_may_do_nothing_of_their_node(folder: str) -> None:
    objects = built(folder)
    for pod in pods(objects):
        spec = pod.template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] >= 999
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        # The head's autoscaler speaks with Kubernetes.
        assert spec.get("automountServiceAccountToken", True) == (pod.name == "ray-head")
        for container in pod.containers:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False
            assert context.get("readOnlyRootFilesystem", False) or pod.name.startswith("ray-")
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
    for one in of_kind(objects, "ServiceAccount"):
        head = one["metadata"]["name"] == "archprior-head"
        assert one.get("automountServiceAccountToken", True) == head


@pytest.mark.parametrize("folder", BUILDS)
def test_what_is_mounted_and_who_pods_are_is_there(folder: str) -> None:
    objects = built(folder)
    accounts = {one["metadata"]["name"] for one in built("overlays/local") if one["kind"] == "ServiceAccount"}
    claims = {
        claim["metadata"]["name"]
        for one in of_kind(objects, "StatefulSet")
        for claim in one["spec"].get("volumeClaimTemplates", [])
    }
    for pod in pods(objects):
        spec = pod.template["spec"]
        assert spec.get("serviceAccountName", "archprior-service") in accounts
        volumes = {volume["name"] for volume in spec.get("volumes", [])} | claims
        for container in pod.containers:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


@pytest.mark.parametrize("folder", BUILDS)
def test_policies_select_pods_that_there_are(folder: str) -> None:
    objects = built(folder)
    there = [pod.labels for pod in pods(objects)]
    for policy in of_kind(objects, "NetworkPolicy"):
        name, spec = policy["metadata"]["name"], policy["spec"]
        peers = [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])]
        peers += [peer for rule in spec.get("egress", []) for peer in rule.get("to", [])]
        selectors = [spec["podSelector"]]
        for peer in peers:
            if "namespaceSelector" in peer:
                assert peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] in BEYOND
            elif "podSelector" in peer:
                selectors.append(peer["podSelector"])
        for selector in selectors:
            assert any(_selects(selector, labels) for labels in there), f"{name}: {selector}"
    for service in of_kind(objects, "Service"):
        assert any(service["spec"]["selector"].items() <= labels.items() for labels in there)


@pytest.mark.parametrize("folder", OVERLAYS)
def test_ports_meet(folder: str) -> None:
    objects = built(folder)
    ports = {
        one["metadata"]["name"]: {port["port"]: port["targetPort"] for port in one["spec"]["ports"]}
        for one in of_kind(objects, "Service")
    }
    for service in of_kind(objects, "Service"):
        pod = next(one for one in pods(objects) if service["spec"]["selector"].items() <= one.labels.items())
        exposed = {port["name"]: port["containerPort"] for port in pod.containers[0]["ports"]}
        for port, target in ports[service["metadata"]["name"]].items():
            assert exposed[target] == port
    # What a policy lets in is what listens; KubeRay's head service has the head's ports.
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for pod in pods(objects):
                if _selects(policy["spec"]["podSelector"], pod.labels):
                    listens = {port["containerPort"] for port in pod.containers[0]["ports"]}
                    assert {port["port"] for port in rule.get("ports", [])} <= listens, policy["metadata"]["name"]
    service = named(objects, "Deployment", "archprior-service")["spec"]["template"]["spec"]
    data = environment(objects, service["containers"][0])
    assert data["ARCHPRIOR_RAY_ADDRESS"] == "http://archprior-ray-head-svc:8265"
    if folder.endswith("local"):
        assert data["ARCHPRIOR_S3_ENDPOINT_URL"] == f"http://store:{next(iter(ports['store']))}"
        redis = of_kind(objects, "RayCluster")[0]["spec"]["gcsFaultToleranceOptions"]["redisAddress"]
        assert redis == f"redis://redis:{next(iter(ports['redis']))}"


@pytest.mark.parametrize("folder", OVERLAYS)
def test_who_has_no_policy_that_lets_it_in_is_reached_by_nobody(folder: str) -> None:
    policies = [one["spec"] for one in of_kind(built(folder), "NetworkPolicy")]
    assert {"podSelector": {}, "policyTypes": ["Ingress"]} in policies


def test_the_local_store_is_reached_by_all_that_use_it_and_redis_by_the_head_only() -> None:
    objects = built("overlays/local")
    reaches = {
        policy["metadata"]["name"]: {
            pod.name
            for rule in policy["spec"].get("ingress", [])
            for peer in rule.get("from", [])
            for pod in pods(objects)
            if _selects(peer.get("podSelector", {"matchLabels": {"no": "pod"}}), pod.labels)
        }
        for policy in of_kind(objects, "NetworkPolicy")
    }
    ray = {"ray-head", "ray-cpu", "ray-gpu"}
    assert reaches["store"] == {*ray, "archprior-service"}
    assert reaches["redis"] == {"ray-head"}
    assert reaches["postgres"] == {"archprior-service"}
    assert reaches["ray-head"] == {*ray, "archprior-service"}
    assert reaches["ray-workers"] == ray


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    matches = selector.get("matchLabels", {}).items() <= labels.items()
    for one in selector.get("matchExpressions", []):
        assert one["operator"] == "In"
        matches = matches and labels.get(one["key"]) in one["values"]
    return bool(matches)
