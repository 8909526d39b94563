"""Imports point one way, and what is marked free of torch is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "workers", "service")
# Floors from the ground; a room may import rooms on lower floors, and itself.
FLOORS = {
    "search_spaces": 0,
    "workers.contracts": 1,
    "workers.bayes": 1,
    "workers.store": 2,
    "workers.tasks": 2,
    "workers.priors": 3,
    "workers.training": 3,
    "workers.adapt": 4,
    "workers.meta": 4,
    "workers.bench": 5,
    "service": 6,
}
TORCH_FREE = (
    "search_spaces.registry",
    "search_spaces.drawing",
    "workers.contracts.adaptations",
    "workers.contracts.meta_runs",
    "workers.contracts.meta_config",
    "workers.store.open",
    "workers.store.patient",
    "workers.tasks.archive",
    "workers.tasks.decoded",
    "workers.tasks.node_cache",
    "workers.tasks.class_split",
    "workers.tasks.sources",
    "workers.tasks.split",
    "workers.priors.registry",
    "workers.adapt.plan",
    "workers.bench.campaign",
    "workers.bench.machine",
    "workers.bench.results",
    "workers.bench.stock",
    "service.app",
    "service.client.client",
    "service.cli.main",
)
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def room_of(module: str) -> str | None:
    parts = module.split(".")
    for length in (2, 1):
        if (room := ".".join(parts[:length])) in FLOORS:
            return room
    return None


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_lower_floors_and_its_own_room(path: Path) -> None:
    own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own is None:
        return
    for module in imports_of(path):
        other = room_of(module)
        if other is not None and other != own:
            assert FLOORS[other] < FLOORS[own], f"{path} imports {module}"


def test_the_mathematics_knows_no_ray_no_files_and_no_environment() -> None:
    for path in (ROOT / "workers" / "bayes").rglob("*.py"):
        forbidden = {"ray", "os", "pathlib", "time", "random", "io", "json"}
        assert not {name.split(".")[0] for name in imports_of(path)} & forbidden, path


@pytest.mark.parametrize("module", TORCH_FREE)
def test_a_module_marked_free_of_torch_imports_with_torch_blocked(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
