import json

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces.errors import InvalidArchitectureError, InvalidOptionError
from search_spaces.export import (
    Preprocessing,
    load_network,
    load_onnx,
    load_torch,
    save_onnx,
    save_torch,
    save_weights,
    trace,
)
from search_spaces.network import build_network, recalibrate
from search_spaces.registry import SPACES
from search_spaces.spec import Macro

PREPROCESSING = Preprocessing(image_size=12, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
ONNX_OPS = {
    *("Add", "AveragePool", "BatchNormalization", "Cast", "Concat", "Conv", "Div", "Gemm", "HardSigmoid", "MaxPool"),
    *("Mul", "Pad", "ReduceMean", "Relu", "Slice", "Sub"),
}


def macro_of(**changes):
    return Macro(**{"num_channels": 4, "num_cells": 3, "num_classes": 5, "image_size": 12, **changes})


def normalized(images):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PREPROCESSING.mean, PREPROCESSING.std))
    return (images.float() / 255 - mean) / std


def random_bytes(count, seed=0):
    return torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network(space, draw_architectures):
    network = build_network(draw_architectures(space, 1, seed=1)[0], macro_of())
    recalibrate(network, [normalized(random_bytes(32, seed)) for seed in range(2)])
    return network.eval()


def test_model_files_compute_what_the_network_computes_at_any_batch_size(network, tmp_path):
    before = {name: t.clone() for name, t in network.state_dict().items()}
    program = trace(network, PREPROCESSING)
    save_torch(program, tmp_path / "model.pt2")
    save_onnx(program, tmp_path / "model.onnx")
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    onnx_model, torch_model = load_onnx(tmp_path / "model.onnx"), load_torch(tmp_path / "model.pt2")
    for count in (1, 2, 7, 64):
        images = random_bytes(count, seed=count)
        expected = network(normalized(images)).detach()
        for model in (onnx_model, torch_model):
            torch.testing.assert_close(torch.from_numpy(model(images.numpy())), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(InvalidOptionError, match="uint8"):
        onnx_model(random_bytes(1).float().numpy())
    with pytest.raises(InvalidOptionError, match="uint8"):
        onnx_model(np.zeros((1, 3, 9, 9), dtype=np.uint8))
    # Nothing of the machine that wrote them.
    for name in ("model.onnx", "model.pt2"):
        assert b".py" not in (tmp_path / name).read_bytes()
    assert {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node} <= ONNX_OPS


def test_preprocessing_must_make_the_images_that_the_network_takes(network):
    other = Preprocessing(image_size=16, mean=(0.5,) * 3, std=(0.2,) * 3)
    with pytest.raises(InvalidOptionError, match="image size"):
        trace(network, other)


def test_preprocessing_is_json():
    assert json.loads(json.dumps(PREPROCESSING.to_json())) == {
        "format_version": 1,
        "image_size": 12,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
        "mode": "RGB",
        "resize": "bilinear antialias to a square",
        "input": "uint8 [N,3,H,W] 0..255",
    }
    with pytest.raises(InvalidOptionError, match="std"):
        Preprocessing(image_size=12, mean=(0.5,) * 3, std=(0.2, 0.0, 0.2))


def test_weights_bring_back_the_same_network(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network, path)
    loaded = load_network(path)
    assert not loaded.training
    assert (loaded.architecture, loaded.macro) == (network.architecture, network.macro)
    images = normalized(random_bytes(5))
    torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)


def test_an_auxiliary_head_is_saved_too(draw_architectures, tmp_path):
    macro = macro_of(auxiliary=True, image_size=32)
    network = build_network(draw_architectures(SPACES["darts"], 1)[0], macro)
    save_weights(network, tmp_path / "w.safetensors")
    loaded = load_network(tmp_path / "w.safetensors").train()
    images = torch.randn(2, 3, 32, 32)
    for got, expected in zip(
        loaded.forward_with_auxiliary(images), network.forward_with_auxiliary(images), strict=True
    ):
        torch.testing.assert_close(got, expected)


def metadata_of(network):
    space = SPACES[network.architecture.space]
    macro = {**macro_of().__dict__}
    return {
        "format_version": "1",
        "architecture": json.dumps(space.to_json(network.architecture)),
        "macro": json.dumps(macro),
    }


@pytest.mark.parametrize(
    ("key", "value", "error", "word"),
    [
        ("format_version", "2", InvalidOptionError, "format_version"),
        ("macro", "{}", InvalidOptionError, "macro"),
        ("macro", "[", InvalidOptionError, "macro"),
        ("architecture", "[]", InvalidOptionError, "architecture"),
        ("architecture", '{"space": "nas_bench_201"}', InvalidArchitectureError, "keys"),
    ],
)
def test_metadata_are_not_trusted(network, tmp_path, key, value, error, word):
    path = tmp_path / "weights.safetensors"
    save_file(dict(network.state_dict()), path, metadata={**metadata_of(network), key: value})
    with pytest.raises(error, match=word):
        load_network(path)


def test_errors_name_the_tensor(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network, path)
    metadata = metadata_of(network)
    good = load_file(path)
    for changes, word in (
        ({"classifier.bias": torch.zeros(6)}, r"classifier\.bias.*\[6\]"),
        ({"classifier.bias": torch.zeros(5, dtype=torch.float64)}, r"classifier\.bias.*float64"),
        ({"stranger": torch.zeros(1)}, "stranger"),
    ):
        save_file({**good, **changes}, path, metadata=metadata)
        with pytest.raises(InvalidOptionError, match=word):
            load_network(path)
    del good["classifier.weight"]
    save_file(good, path, metadata=metadata)
    with pytest.raises(InvalidOptionError, match=r"classifier\.weight is missing"):
        load_network(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"\x80\x04not a safetensors file")
    with pytest.raises(InvalidOptionError, match=r"weights\.safetensors"):
        load_network(path)
