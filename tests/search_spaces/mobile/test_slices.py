"""A supernet whose small blocks share slices of the large ones' weights."""

from functools import partial

import pytest
import torch
from torch import nn

from search_spaces.mobile.body import MobileBody
from search_spaces.mobile.chain import BLOCKS, SKIP
from search_spaces.mobile.slices import largest, slice_of
from search_spaces.mobile.space import Mobile
from search_spaces.network import build_network, inherit
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet

SPACE = Mobile()
MACRO = Macro(num_channels=4, num_cells=2, num_classes=5, image_size=12)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_hot(arch):
    weights = torch.zeros(SPACE.num_decisions, SPACE.num_options, dtype=torch.float64)
    weights[range(SPACE.num_decisions), arch.choices] = 1.0
    return weights


@pytest.fixture
def supernet():
    """In float64, with batch norm away from its initial 1 and 0."""
    net = build_supernet("mobile", MACRO, generator=seeded(), body=partial(MobileBody, sharing="slices")).double()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64)
    return net


@pytest.fixture
def images():
    return torch.randn(3, 3, 12, 12, generator=seeded(2), dtype=torch.float64)


def test_a_slice_is_the_first_channels_and_the_center_of_the_kernel():
    large = torch.arange(3 * 2 * 49.0).view(3, 2, 7, 7)
    assert torch.equal(slice_of(large, (2, 1, 3, 3)), large[:2, :1, 2:5, 2:5])
    assert torch.equal(slice_of(large, (3, 2, 5, 5)), large[:, :, 1:6, 1:6])
    assert torch.equal(slice_of(large, (3, 2, 7, 7)), large)
    assert torch.equal(slice_of(torch.arange(5), (2,)), torch.tensor([0, 1]))


def test_only_the_largest_blocks_have_weights():
    assert {largest(op) for op in BLOCKS} == {"mbconv_k7_e6", "mbconv_k7_e6_se"}
    assert all(BLOCKS[largest(op)].squeeze == BLOCKS[op].squeeze for op in BLOCKS)
    shared = build_supernet("mobile", MACRO, body=partial(MobileBody, sharing="slices"))
    separate = build_supernet("mobile", MACRO, body=partial(MobileBody, sharing="separate"))
    names = {name for name, _ in shared.named_parameters()}
    assert names == {
        name
        for name, _ in separate.named_parameters()
        if not any(f".{op}." in name for op in BLOCKS if op != largest(op))
    }
    assert sum(p.numel() for p in shared.parameters()) < 0.4 * sum(p.numel() for p in separate.parameters())


def test_an_inherited_network_computes_what_the_supernet_computes(supernet, images, draw_architectures):
    parameters = dict(supernet.named_parameters())
    for arch in draw_architectures(SPACE, 8):
        network = build_network(arch, MACRO).double().train()
        inherit(network, parameters)
        torch.testing.assert_close(network(images), supernet(images, arch), **EXACT)
        torch.testing.assert_close(supernet(images, arch), supernet(images, one_hot(arch)), **EXACT)


def test_a_supernet_of_separate_weights_gives_its_own_and_no_slices(images, draw_architectures):
    supernet = build_supernet("mobile", MACRO, generator=seeded(), body=partial(MobileBody, sharing="separate"))
    [arch] = draw_architectures(SPACE, 1, seed=1)
    network = build_network(arch, MACRO).train()
    inherit(network, dict(supernet.named_parameters()))
    torch.testing.assert_close(network(images.float()), supernet(images.float(), arch))


def test_gradient_of_a_small_block_stays_in_its_slice(supernet, images):
    arch = SPACE.parse("+".join(["|mbconv_k3_e3|mbconv_k3_e3|skip_connect|"] * 4))
    supernet(images, arch).square().sum().backward()
    block = supernet.body.layers[1].ops["mbconv_k7_e6"][0].branch
    depthwise = block[3].weight.grad  # of 24 channels and 7 x 7 pixels; the small block has 12 and 3 x 3
    outside = torch.ones_like(depthwise, dtype=torch.bool)
    outside[:12, :, 2:5, 2:5] = False
    assert depthwise[outside].abs().max() == 0
    assert (depthwise[~outside] != 0).any()
    project = block[6].weight.grad
    assert project[:, 12:].abs().max() == 0
    assert (project[:, :12] != 0).any()
    assert all(p.grad is None for p in supernet.body.layers[1].ops["mbconv_k7_e6_se"].parameters())


def test_what_one_block_learns_the_blocks_that_share_it_have_learned(supernet, images):
    ops = ("mbconv_k3_e3", "mbconv_k7_e6", "mbconv_k3_e3_se")
    archs = [SPACE.parse("+".join([f"|{op}|{SKIP}|{SKIP}|"] * 4)) for op in ops]
    before = [supernet(images, arch).detach() for arch in archs]
    with torch.no_grad():
        # What a step on the smallest block changes.
        supernet.body.layers[0].ops["mbconv_k7_e6"][3].weight[:12, :, 2:5, 2:5] += 1.0
    changed = [not torch.equal(supernet(images, arch), old) for arch, old in zip(archs, before, strict=True)]
    assert changed == [True, True, False]


def test_gradient_of_the_weights_on_options_is_the_numerical_one(supernet, images):
    mask = torch.tensor(SPACE.option_mask, dtype=torch.float64)
    weights = (mask / mask.sum(dim=1, keepdim=True)).requires_grad_()

    def loss(w):
        return supernet(images, w).square().mean()

    [gradient] = torch.autograd.grad(loss(weights), weights)
    assert torch.equal(gradient != 0, mask.bool())
    step = 1e-9 * mask * torch.randn(weights.shape, generator=seeded(4), dtype=torch.float64)
    with torch.no_grad():
        numerical = (loss(weights + step) - loss(weights - step)) / 2
    torch.testing.assert_close((gradient * step).sum(), numerical, rtol=1e-4, atol=1e-14)


def test_functional_call_and_func_grad_reach_the_shared_weights(supernet, images):
    arch = SPACE.parse("+".join(["|mbconv_k5_e3|mbconv_k3_e6_se|skip_connect|"] * 4))
    parameters = {name: p.detach() for name, p in supernet.named_parameters()}

    def loss(p):
        return torch.func.functional_call(supernet, p, (images, arch)).square().sum()

    gradients = torch.func.grad(loss)(parameters)
    supernet(images, arch).square().sum().backward()
    for name, parameter in supernet.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradients[name], expected, **EXACT)


def test_the_smaller_blocks_are_no_part_of_the_module(supernet):
    assert set(supernet.body.layers[1].ops) == {"mbconv_k7_e6", "mbconv_k7_e6_se", SKIP}
    assert not any(p.is_meta for p in supernet.parameters())
    assert sum(isinstance(m, nn.Conv2d) for m in supernet.body.layers[1].modules()) == 3 + 5
