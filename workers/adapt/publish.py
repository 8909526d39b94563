"""From a trained network to artifacts in the store: exported, loaded again, compared, listed last in the manifest."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from search_spaces import standalone
from search_spaces.decisions import FORMAT_VERSION
from search_spaces.export import (
    Model,
    Preprocessing,
    load_network,
    load_onnx,
    load_torch,
    save_onnx,
    save_torch,
    save_weights,
    trace,
)
from search_spaces.network import Network
from search_spaces.registry import SPACES
from workers.adapt.card import write_card
from workers.adapt.choice import predict
from workers.adapt.data import Part
from workers.adapt.report import draw_curves, write_report
from workers.contracts.artifacts import MANIFEST, MEDIA_TYPES, Artifact, Manifest, Metrics
from workers.contracts.errors import ExportMismatchError
from workers.store.protocol import Store
from workers.tasks.batches import MEAN, STD

# Of the largest logit, or of 1 if that is smaller: float32 graphs of another runtime differ by rounding only.
TOLERANCE: Final = 1e-3
NUM_COMPARED: Final = 256


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Model files in a local folder, and how far each strays from the trained network once loaded again."""

    folder: Path
    max_reload_difference: dict[str, float]


def export_network(network: Network, held_out: Part, classes: tuple[str, ...], folder: Path) -> Exported:
    """Write the model files and compare each, loaded again, with the network on held-out images.

    Raises:
        ExportMismatchError: A file predicts something else.
    """
    network = network.to("cpu").eval()
    side = network.macro.image_size
    compared = Part(images=held_out.images[:NUM_COMPARED].cpu(), labels=held_out.labels[:NUM_COMPARED].cpu())
    logits_NK = predict(network, compared)
    preprocessing = Preprocessing(image_size=side, mean=MEAN, std=STD)
    save_weights(network, folder / "weights.safetensors")
    program = trace(network, preprocessing)
    save_torch(program, folder / "model.pt2")
    save_onnx(program, folder / "model.onnx")
    bytes_nchw = np.ascontiguousarray(compared.images.permute(0, 3, 1, 2).numpy())
    reloaded = predict(load_network(folder / "weights.safetensors"), compared)
    differences = {
        "weights.safetensors": float((reloaded - logits_NK).abs().max()),
        "model.onnx": _difference(load_onnx(folder / "model.onnx"), bytes_nchw, logits_NK),
        "model.pt2": _difference(load_torch(folder / "model.pt2"), bytes_nchw, logits_NK),
    }
    allowed = TOLERANCE * max(1.0, float(logits_NK.abs().max()))
    for name, difference in differences.items():
        if not difference <= allowed:
            raise ExportMismatchError(
                f"{name} predicts something else than the trained network",
                got=difference,
                expected=f"logits within {allowed:.2g}",
                todo="Please report this with the architecture and the versions.",
            )
    space = SPACES[network.architecture.space]
    _write_json(folder / "architecture.json", {"format_version": FORMAT_VERSION, **space.to_json(network.architecture)})
    _write_json(folder / "preprocessing.json", preprocessing.to_json())
    _write_json(folder / "labels.json", list(classes))
    (folder / "cell.svg").write_text(space.draw_svg(network.architecture), encoding="utf-8")
    (folder / "predict.py").write_bytes(resources.files(standalone).joinpath("predict.py").read_bytes())
    return Exported(folder=folder, max_reload_difference=differences)


def publish(
    store: Store,
    attempt_key: str,
    network: Network,
    held_out: Part,
    classes: tuple[str, ...],
    make_metrics: Callable[[dict[str, float]], Metrics],
) -> Manifest:
    """Export, compare, report and upload; the manifest goes last, so a result is whole or absent.

    Args:
        store: Where to.
        attempt_key: Prefix of the attempt, without a final slash.
        network: Trained.
        held_out: Images to compare on.
        classes: Names by label.
        make_metrics: Gives the metrics from the largest reload differences, as late as can be, for its timings.
    """
    with tempfile.TemporaryDirectory(prefix="archprior-") as name:
        folder = Path(name)
        exported = export_network(network, held_out, classes, folder)
        space = SPACES[network.architecture.space]
        metrics = make_metrics(exported.max_reload_difference)
        (folder / "curves.svg").write_text(draw_curves(metrics.series), encoding="utf-8")
        report = write_report(metrics, space.draw_text(network.architecture))
        (folder / "report.md").write_text(report, encoding="utf-8")
        (folder / "card.md").write_text(write_card(metrics), encoding="utf-8")
        (folder / "metrics.json").write_text(metrics.model_dump_json(indent=2), encoding="utf-8")
        artifacts = tuple(_upload(store, attempt_key, folder / file, media) for file, media in MEDIA_TYPES.items())
    manifest = Manifest(adaptation_id=metrics.adaptation_id, attempt=metrics.attempt, artifacts=artifacts)
    store.put_bytes(
        f"{attempt_key}/{MANIFEST}", manifest.model_dump_json(indent=2).encode(), media_type="application/json"
    )
    return manifest


def _difference(model: Model, images: npt.NDArray[np.uint8], logits_NK: Tensor) -> float:
    """Return the largest absolute difference of a logit, over all images at once and the first one alone."""
    expected = logits_NK.numpy()
    return float(np.max([np.abs(model(part) - expected[: len(part)]).max() for part in (images, images[:1])]))


def _upload(store: Store, attempt_key: str, path: Path, media_type: str) -> Artifact:
    data = path.read_bytes()
    store.put_file(f"{attempt_key}/{path.name}", path, media_type=media_type)
    return Artifact(name=path.name, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), media_type=media_type)


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
