"""A supernet, its three forms of op weights, and the discrete networks inside it."""

import pytest
import torch

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError, UnknownNameError
from search_spaces.network import build_network, inherit
from search_spaces.spec import Macro
from search_spaces.supernet import build_supernet

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def macro_of(space, **changes):
    return Macro(**{"num_channels": 4, "num_cells": 3, "num_classes": 5, "image_size": 12, **changes})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_hot(space, arch):
    weights = torch.zeros(space.num_decisions, space.num_options, dtype=torch.float64)
    weights[range(space.num_decisions), arch.choices] = 1.0
    return weights


def uniform(space):
    mask = torch.tensor(space.option_mask, dtype=torch.float64)
    return mask / mask.sum(dim=1, keepdim=True)


@pytest.fixture
def supernet(space):
    """In float64, with batch norm away from its initial 1 and 0."""
    net = build_supernet(space.name, macro_of(space), generator=seeded()).double()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64)
    return net


@pytest.fixture
def images():
    return torch.randn(3, 3, 12, 12, generator=seeded(2), dtype=torch.float64)


def test_an_architecture_and_its_one_hot_give_the_same_logits(space, supernet, images, draw_architectures):
    for arch in draw_architectures(space, 6):
        torch.testing.assert_close(supernet(images, arch), supernet(images, one_hot(space, arch)), **EXACT)


def test_an_inherited_network_computes_what_the_supernet_computes(space, supernet, images, draw_architectures):
    parameters = dict(supernet.named_parameters())
    for arch in draw_architectures(space, 6, seed=1):
        network = build_network(arch, macro_of(space)).double().train()
        inherit(network, parameters)
        torch.testing.assert_close(network(images), supernet(images, arch), **EXACT)
        torch.testing.assert_close(network.features(images), supernet.features(images, arch), **EXACT)


def test_parameters_of_a_network_are_those_or_slices_of_the_supernets_and_all_used(
    space, supernet, images, draw_architectures
):
    of_body = dict(supernet.body.named_parameters())
    for arch in draw_architectures(space, 4, seed=2):
        network = build_network(arch, macro_of(space)).double()
        slices = network.body.slices(of_body)
        assert not slices.keys() & of_body.keys()
        held = {name: p.shape for name, p in {**of_body, **slices}.items()}
        assert {name: p.shape for name, p in network.body.named_parameters()}.items() <= held.items()
        network(images).sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_gradient_reaches_the_weights_that_ran_and_no_other(space, supernet, images, draw_architectures):
    [arch] = draw_architectures(space, 1, seed=3)
    weights = one_hot(space, arch).requires_grad_()
    supernet(images, weights).square().sum().backward()
    # The two slots of a darts node share ops: what one runs, the other could have run at no cost.
    groups = [decision.name.rsplit("/", 1)[0] for decision in space.decisions]
    ran = {(group, choice) for group, choice in zip(groups, arch.choices, strict=True)}
    reached = {(groups[e], o) for e, o in weights.grad.nonzero().tolist()}
    assert reached
    assert reached <= ran
    # The network's own gradient, and nothing beside it.
    network = build_network(arch, macro_of(space)).double().train()
    inherit(network, dict(supernet.named_parameters()))
    network(images).square().sum().backward()
    norms = [sum(p.grad.square().sum() for p in net.parameters() if p.grad is not None) for net in (supernet, network)]
    torch.testing.assert_close(*norms, **EXACT)
    inherit(
        network, {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in supernet.named_parameters()}
    )
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter, parameter.grad, **EXACT, msg=name)


def test_every_real_option_gets_gradient_when_all_run(space, supernet, images):
    weights = uniform(space).requires_grad_()
    supernet(images, weights).square().sum().backward()
    adds_something = torch.tensor(
        [[o < len(d.options) and d.options[o] != "none" for o in range(space.num_options)] for d in space.decisions]
    )
    assert torch.equal(weights.grad != 0, adds_something)


def test_gradient_of_the_weights_is_the_numerical_one(space, supernet, images):
    weights = uniform(space).requires_grad_()

    def loss(w):
        return supernet(images[:2], w).square().mean()

    [gradient] = torch.autograd.grad(loss(weights), weights)
    direction = torch.randn(weights.shape, generator=seeded(4), dtype=torch.float64) * torch.tensor(space.option_mask)
    step = 1e-9 * direction
    with torch.no_grad():
        numerical = (loss(weights + step) - loss(weights - step)) / 2e-9
    # ReLU and max pooling have kinks; none lies within the step for these images.
    torch.testing.assert_close((gradient * direction).sum(), numerical, rtol=1e-5, atol=1e-6)


def test_functional_call_and_func_grad_work_on_op_weights(space, supernet, images, draw_architectures):
    weights = one_hot(space, draw_architectures(space, 1)[0])
    parameters = {name: p.detach() for name, p in supernet.named_parameters()}

    def loss(p, w):
        return torch.func.functional_call(supernet, p, (images, w)).square().sum()

    gradients = torch.func.grad(loss, argnums=(0, 1))(parameters, weights)
    expected = weights.clone().requires_grad_()
    supernet(images, expected).square().sum().backward()
    torch.testing.assert_close(gradients[1], expected.grad, **EXACT)


def test_a_seed_fixes_every_initial_weight_whatever_the_global_state(space):
    def parameters(seed):
        net = build_supernet(space.name, macro_of(space), generator=seeded(seed))
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    state = torch.get_rng_state()
    first = parameters(7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert torch.equal(first, parameters(7))
    assert not torch.equal(first, parameters(8))


def test_a_fresh_network_has_finite_logits_of_ordinary_size(space, draw_architectures):
    macro = macro_of(space)
    net = build_supernet(space.name, macro, generator=seeded())
    for arch in draw_architectures(space, 4):
        logits = net(torch.randn(8, 3, 12, 12, generator=seeded(1)), arch)
        assert logits.shape == (8, macro.num_classes)
        assert logits.abs().max() < 100.0


def test_every_activation_keeps_the_channels_last_layout(space, draw_architectures):
    net = build_supernet(space.name, macro_of(space))
    shapes = []

    def check(module, inputs, output):
        if output.dim() == 4:
            shapes.append(output.shape)
            assert output.is_contiguous(memory_format=torch.channels_last), module

    for module in net.modules():
        if not list(module.children()) and module is not net:
            module.register_forward_hook(check)
    net(torch.randn(2, 3, 12, 12), uniform(space).float())
    for arch in draw_architectures(space, 3):
        net(torch.randn(2, 3, 12, 12), arch)
    assert shapes


def test_wrong_op_weights_are_refused(space, supernet, images, draw_architectures):
    with pytest.raises(InvalidOptionError, match="op_weights"):
        supernet(images, uniform(space)[1:])
    [arch] = draw_architectures(space, 1)
    with pytest.raises(InvalidArchitectureError, match="elsewhere"):
        supernet(images, Architecture("elsewhere", arch.choices))


def test_a_supernet_has_no_auxiliary_head_and_needs_a_known_space(space):
    with pytest.raises(InvalidOptionError, match="auxiliary"):
        build_supernet(space.name, macro_of(space, auxiliary=True))
    with pytest.raises(UnknownNameError, match=space.name):
        build_supernet("nowhere", macro_of(space))
