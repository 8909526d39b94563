"""What a finished adaptation brought: fetched, told to people, told to programs."""

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from search_spaces.errors import lookup
from search_spaces.registry import SPACES
from service.cli.output import table
from service.client import Client, ServiceError
from service.schemas import AdaptationView, MetaRunView, Problem, Result
from workers.contracts.artifacts import MANIFEST, Artifact, Manifest

METRICS = "metrics.json"


def require_success(view: AdaptationView) -> Result:
    """Return the result of an adaptation that has ended well.

    Raises:
        ServiceError: It failed, or was cancelled; with the service's problem.
    """
    if view.state == "SUCCEEDED" and view.result is not None:
        return view.result
    raise bad_end("adaptation", view)


def bad_end(kind: str, view: AdaptationView | MetaRunView) -> ServiceError:
    """Return why work has failed or was cancelled: the service's problem, or one that says so."""
    if view.error is not None:
        return ServiceError(view.error)
    state = view.state.lower()
    return ServiceError(
        Problem(title=f"{kind} {view.id} was {state}", status=409, code=state, instance=view.links.self)
    )


def fetch(client: Client, view: AdaptationView, folder: Path) -> dict[str, Path]:
    """Download every artifact of an adaptation, and list them in `manifest.json`; return the absolute paths by name."""
    artifacts = view.artifacts or client.artifacts(view.id)
    paths = {artifact.name: client.download(view.id, artifact, folder).absolute() for artifact in artifacts}
    listed = tuple(Artifact.model_validate(artifact.model_dump(exclude={"href"})) for artifact in artifacts)
    manifest = Manifest(adaptation_id=view.id, attempt=view.attempt, artifacts=listed)
    paths[MANIFEST] = (folder / MANIFEST).absolute()
    paths[MANIFEST].write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return paths


def as_document(view: AdaptationView, result: Result, paths: Mapping[str, Path]) -> dict[str, object]:
    """Return what `--json` prints; `metrics` is the whole of `metrics.json`."""
    return {
        "id": view.id,
        "state": view.state,
        "seed": view.request.seed,
        "architecture": result.architecture,
        "metrics": json.loads(paths[METRICS].read_text()),
        "cost": result.cost,
        "timings_s": result.timings_s,
        "artifacts": {name: str(path) for name, path in paths.items()},
    }


def tell(console: Console, view: AdaptationView, result: Result, paths: Mapping[str, Path]) -> None:
    """Print the drawn architecture, its accuracy and cost, where the files lie, and how long each phase took."""
    space = lookup(SPACES, view.request.search_space, kind="search space")
    architecture = space.parse(result.architecture)
    console.print(f"adaptation {view.id}: {space.title}", style="bold", markup=False)
    console.print(f"\n{space.draw_text(architecture)}\n", markup=False, soft_wrap=True)
    interval = result.accuracy_interval
    facts = table("", "")
    facts.show_header = False
    facts.add_row(
        "accuracy",
        f"{result.accuracy:.1%} of {result.num_test:,} test images "
        f"(95 % interval {interval.low:.1%} to {interval.high:.1%})",
    )
    facts.add_row("parameters", f"{result.cost.params:,}")
    facts.add_row("MACs", f"{result.cost.macs:,} for one image")
    facts.add_row("verdict", result.verdict)
    if result.budget_note:
        facts.add_row("budget", result.budget_note)
    console.print(facts)
    files = table("artifact", "bytes", "path", numbers=frozenset({1}))
    for name, path in paths.items():
        files.add_row(name, f"{path.stat().st_size:,}", Text(str(path)))
    console.print(files)
    seconds = table("phase", "seconds", numbers=frozenset({1}))
    for phase, spent_s in result.timings_s.items():
        seconds.add_row(phase, f"{spent_s:.1f}")
    console.print(seconds)
