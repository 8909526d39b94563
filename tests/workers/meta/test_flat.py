import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from workers.meta.flat import Flat, arrange, pack, unpack


@pytest.fixture
def arrays() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 3, 2, 4, generator=generator)
    return {
        "scalar": torch.tensor(0.25),
        "weight": weight.contiguous(memory_format=torch.channels_last),
        "plain": weight.clone(),
        "transposed": torch.randn(4, 6, generator=generator).T,
        "empty": torch.empty(0, 3),
        "one channel": torch.randn(4, 1, 3, 3, generator=generator).contiguous(memory_format=torch.channels_last),
    }


def test_names_shapes_and_bits_come_back(arrays: dict[str, Tensor]) -> None:
    back = unpack(pickle.loads(pickle.dumps(pack(arrays))))
    assert list(back) == list(arrays)
    assert all(torch.equal(back[name], arrays[name]) for name in arrays)


def test_the_order_in_memory_comes_back_so_that_norms_have_the_same_bits(arrays: dict[str, Tensor]) -> None:
    back = unpack(pack(arrays))
    for name in ("weight", "plain", "one channel"):
        assert back[name].stride() == arrays[name].stride()
    assert back["weight"].is_contiguous(memory_format=torch.channels_last)
    large = torch.randn(64, 33, 5, 5, generator=torch.Generator().manual_seed(1))
    large = large.contiguous(memory_format=torch.channels_last)
    again = unpack(pack({"x": large}))["x"]
    assert torch.linalg.vector_norm(again).item() == torch.linalg.vector_norm(large).item()


def test_read_only_values_are_left_alone(arrays: dict[str, Tensor]) -> None:
    flat = pack(arrays)
    flat.values.flags.writeable = False
    before = flat.values.copy()
    for value in unpack(flat).values():
        value.add_(1.0)
    assert np.array_equal(flat.values, before)


def test_packing_copies_and_needs_no_detached_tensors() -> None:
    value = torch.ones(3, requires_grad=True)
    flat = pack({"x": value})
    with torch.no_grad():
        value.mul_(2.0)
    assert flat.values.tolist() == [1.0, 1.0, 1.0]
    assert flat.num_bytes == 12


def test_other_types_are_refused_by_name() -> None:
    with pytest.raises(InvalidOptionError, match=r"tensor half cannot be packed.*float16"):
        pack({"half": torch.ones(2, dtype=torch.float16)})


@pytest.mark.parametrize("num_values", [11, 13])
def test_values_that_do_not_fit_the_layout_are_refused(num_values: int) -> None:
    layout = pack({"x": torch.zeros(3, 4)}).layout
    with pytest.raises(InvalidOptionError, match=r"does not fit its layout.*\(12,\)"):
        unpack(Flat(layout, np.zeros(num_values, np.float32)))


def test_the_same_tensors_laid_out_in_another_way_are_arranged_alike_so_that_they_add_up(
    arrays: dict[str, Tensor],
) -> None:
    ours = pack(arrays)
    theirs = pack({name: arrays[name].contiguous() for name in reversed(arrays)})
    assert theirs.layout != ours.layout
    arranged = arrange(theirs, ours.layout)
    assert arranged.layout == ours.layout
    assert np.array_equal(arranged.values, ours.values)
    assert arrange(ours, ours.layout) is ours


def test_other_tensors_cannot_be_arranged_alike(arrays: dict[str, Tensor]) -> None:
    with pytest.raises(InvalidOptionError, match="different tensors"):
        arrange(pack({"scalar": arrays["scalar"]}), pack(arrays).layout)
