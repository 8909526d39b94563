"""Kubernetes' objects as kustomize builds them from the project's overlays."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")
BUILDS = ("overlays/local", "overlays/cloud", "first-key")

Object = dict[str, Any]
RAY = {"ray.io/cluster": "archprior-ray"}


@dataclass(frozen=True)
class Pod:
    """A pod template.

    Attributes:
        name: Of what makes such pods.
        template: As in the object.
        labels: Of the pods, those that KubeRay gives included.
    """

    name: str
    template: Object
    labels: dict[str, str] = field(hash=False)

    @property
    def containers(self) -> list[Object]:
        spec = self.template["spec"]
        return [*spec.get("initContainers", []), *spec["containers"]]

    @property
    def own_containers(self) -> list[Object]:
        """Those that run the project's image."""
        return [one for one in self.containers if "archprior" in one["image"]]


def build(folder: str) -> list[Object]:
    """Return the objects of an overlay, by kubectl's own kustomize; no cluster is asked."""
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(KUBERNETES / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Yield the templates of all pods that there will be."""
    for one in of_kind(objects, "Deployment", "StatefulSet", "Job"):
        template = one["spec"]["template"]
        yield Pod(one["metadata"]["name"], template, template["metadata"]["labels"])
    for one in of_kind(objects, "RayCluster"):
        head = one["spec"]["headGroupSpec"]["template"]
        yield Pod("ray-head", head, {**RAY, "ray.io/node-type": "head"})
        for group in one["spec"]["workerGroupSpecs"]:
            labels = {**RAY, "ray.io/node-type": "worker", "ray.io/group": group["groupName"]}
            yield Pod(f"ray-{group['groupName']}", group["template"], labels)
