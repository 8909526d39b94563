"""Files of a trained network: ONNX and torch.export with the preprocessing inside, and weights as safetensors."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_eval

from search_spaces.errors import InvalidOptionError, lookup
from search_spaces.network import Network, build_network
from search_spaces.registry import SPACES
from search_spaces.spec import Macro

FORMAT_VERSION: Final = "1"
PREPROCESSING_VERSION: Final = 1
OPSET: Final = 20
INPUT, OUTPUT = "images", "logits"

Model = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""From images [N, 3, H, W] to logits [N, K], on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes a network's input; the normalization is part of the model files.

    Attributes:
        image_size: Side of the square that images are resized to, in pixels.
        mean: Subtracted per channel, after scaling to 0..1.
        std: Divided by per channel.
        mode: Pillow mode that images are converted to.
        resize: How they are resized.
        input: What the model files take.
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mode: str = "RGB"
    resize: str = "bilinear antialias to a square"
    input: str = "uint8 [N,3,H,W] 0..255"

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0.0:
            raise InvalidOptionError(
                "mean and std of the preprocessing", got=[self.mean, self.std], expected="3 each, std above 0"
            )

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain JSON values, and the version of their format."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"format_version": PREPROCESSING_VERSION, **values}


class _FromBytes(nn.Module):
    """A network behind its normalization."""

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.mean = nn.Buffer(255.0 * torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.std = nn.Buffer(255.0 * torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images.float() - self.mean) / self.std)
        return logits


def trace(network: Network, preprocessing: Preprocessing) -> ExportedProgram:
    """Return the graph that both model files are written from: `images` uint8 [N, 3, H, W] to float32 [N, K], N free.

    The normalization is inside, and batch norm is folded into the convolutions before it.

    Args:
        network: In any mode; traced as it evaluates. It is not changed.
        preprocessing: Its `image_size` must be the network's.

    Raises:
        InvalidOptionError: The network takes other images than the preprocessing makes.
    """
    macro = network.macro
    if (macro.image_size, macro.image_channels) != (preprocessing.image_size, 3):
        raise InvalidOptionError(
            "image size and channels of the preprocessing",
            got=[preprocessing.image_size, 3],
            expected=str([macro.image_size, macro.image_channels]),
        )
    folded = copy.deepcopy(network).float().cpu().eval()
    fold_batch_norm(folded)
    # Any number but 1, which would be taken for a constant.
    example = torch.zeros(2, 3, macro.image_size, macro.image_size, dtype=torch.uint8)
    program = torch.export.export(
        _FromBytes(folded, preprocessing).eval(),
        (example,),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    # Tracing notes the source lines of every node, with this machine's paths.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
        node.meta.pop("from_node", None)
    return program


def save_torch(program: ExportedProgram, path: Path) -> None:
    """Write the graph for `torch.export.load`; `path` must end in `.pt2`."""
    torch.export.save(program, path)


def save_onnx(program: ExportedProgram, path: Path) -> None:
    """Write the graph as an ONNX file: `images` to `logits`."""
    converted = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        external_data=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
    )
    if converted is None:  # only with a path, or with the former exporter
        raise InvalidOptionError("ONNX program", expected="torch.onnx.export to return one")
    for node in converted.model.graph.all_nodes():
        node.metadata_props.clear()
    converted.save(path)


def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch norm that follows a convolution into it, in place; the network must be in evaluation mode.

    Half as many layers: the export takes half the time, the file is smaller, and inference is faster.
    """
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for i, (first, second) in enumerate(pairwise(list(sequence))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                sequence[i] = fuse_conv_bn_eval(first, second)
                sequence[i + 1] = nn.Identity()


def load_torch(path: Path) -> Model:
    """Return the model of a file that `save_torch` wrote.

    Loading it may run code that the file holds: only files that this process wrote itself are loaded.
    """
    module = torch.export.load(path).module()

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            logits: Tensor = module(torch.from_numpy(images))
        return logits.numpy()

    return run


def load_onnx(path: Path) -> Model:
    """Return the model of an ONNX file, run on one CPU thread.

    It raises `InvalidOptionError` for images that are not bytes, or not of the file's shape.
    """
    options = onnxruntime.SessionOptions()
    # More threads would compete with torch's, and their sums differ from run to run.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected = session.get_inputs()[0].shape[1:]

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if images.dtype != np.uint8 or list(images.shape[1:]) != expected:
            raise InvalidOptionError(
                "images for the ONNX file",
                got=f"{images.dtype} {list(images.shape)}",
                expected=f"uint8 [N, {expected}]",
            )
        [logits] = session.run([OUTPUT], {INPUT: images})
        return np.asarray(logits, dtype=np.float32)

    return run


def save_weights(network: Network, path: Path) -> None:
    """Write parameters and running statistics as safetensors, with what `load_network` needs in the metadata."""
    space = lookup(SPACES, network.architecture.space, kind="search space")
    metadata = {
        "format_version": FORMAT_VERSION,
        "architecture": json.dumps(space.to_json(network.architecture)),
        "macro": json.dumps(asdict(network.macro)),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, path, metadata=metadata)


def load_network(path: Path) -> Network:
    """Return the network that `save_weights` wrote, in evaluation mode. Nothing is unpickled.

    Raises:
        InvalidOptionError: No such file format or version, or a tensor is missing, superfluous or of another shape;
            the error names it.
        InvalidArchitectureError: The architecture in the metadata cannot be built.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            names = file.keys()  # of a file that is no mapping
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise InvalidOptionError(f"weights file {path.name}", got=str(error), expected="safetensors") from error
    network = _network_of(metadata, path.name)
    _check_tensors(tensors, network.state_dict(), path.name)
    network.load_state_dict(tensors)
    return network.eval()


def _network_of(metadata: Mapping[str, str], file: str) -> Network:
    """Return an empty network as the metadata describe it."""
    if metadata.get("format_version") != FORMAT_VERSION:
        raise InvalidOptionError(
            f"format_version of {file}",
            got=metadata.get("format_version"),
            expected=FORMAT_VERSION,
            todo="Where a newer ArchPrior wrote the file, update this one.",
        )
    document, macro = (_json_object(metadata, key, file) for key in ("architecture", "macro"))
    names = {field.name for field in fields(Macro)}
    if set(macro) != names:
        raise InvalidOptionError(f"macro of {file}", got=sorted(macro), expected=", ".join(sorted(names)))
    space = lookup(SPACES, str(document.get("space")), kind="search space")
    return build_network(space.parse(document), Macro(**macro))


def _json_object(metadata: Mapping[str, str], key: str, file: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata.get(key, ""))
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise InvalidOptionError(f"{key} of {file}", got=metadata.get(key), expected="a JSON object")
    return value


def _check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: str) -> None:
    for name in sorted(tensors.keys() ^ expected.keys()):
        problem = "missing from" if name in expected else "not expected in"
        raise InvalidOptionError(f"tensor {name} is {problem} {file}")
    for name, tensor in expected.items():
        got = tensors[name]
        if got.shape != tensor.shape or got.dtype != tensor.dtype:
            raise InvalidOptionError(
                f"tensor {name} of {file}",
                got=f"{got.dtype} {list(got.shape)}",
                expected=f"{tensor.dtype} {list(tensor.shape)}",
            )
