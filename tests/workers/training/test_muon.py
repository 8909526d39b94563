"""Steps with singular values near one."""

import pytest
import torch
from torch import nn

from search_spaces.network import build_network
from search_spaces.registry import SPACES
from workers.training.muon import Muon, mixes_channels, orthogonal


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(2, 16, 144), (1, 64, 16), (3, 8, 8)])
def test_singular_values_come_near_one_and_their_vectors_stay(shape: tuple[int, int, int]) -> None:
    matrices = drawn(*shape)
    u, values, v = torch.linalg.svd(matrices, full_matrices=False)
    found = torch.diagonal(u.mT @ orthogonal(matrices) @ v.mT, dim1=1, dim2=2)
    large = found[values > 0.1 * values[:, :1]]
    assert 0.6 < float(large.min()) <= float(large.max()) < 1.3
    torch.testing.assert_close(u @ torch.diag_embed(found) @ v, orthogonal(matrices), atol=1e-4, rtol=0)


def test_it_agrees_with_torchs_own() -> None:
    ours, theirs = nn.Parameter(drawn(8, 3, 3, 3)), nn.Parameter(drawn(8, 27))
    optimizers = Muon([ours], lr=0.1, momentum=0.9), torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.0)
    before = theirs.detach().clone()
    for seed in range(3):
        gradient = torch.randn(8, 27, generator=torch.Generator().manual_seed(seed))
        ours.grad, theirs.grad = gradient.view_as(ours).clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = float((theirs.detach() - before).norm())
    assert float((ours.detach().flatten(1) - theirs.detach()).norm()) < 0.02 * moved


def test_matrices_of_one_shape_do_not_mix() -> None:
    def after(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        parameters = [nn.Parameter(torch.zeros(4, 6)) for _ in gradients]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        Muon(parameters, lr=0.1).step()
        return [parameter.detach() for parameter in parameters]

    gradients = list(drawn(2, 4, 6))
    together = after(gradients)
    torch.testing.assert_close(together, [after([gradient])[0] for gradient in gradients])


def test_a_relative_step_is_a_share_of_the_matrix_and_a_matrix_of_zeros_learns() -> None:
    def moved(size: float) -> torch.Tensor:
        learning, other = (nn.Parameter(factor * size * drawn(4, 3, 2, 1)) for factor in (1.0, 5.0))
        before = [parameter.detach().clone() for parameter in (learning, other)]
        for parameter in (learning, other):
            parameter.grad = drawn(4, 6).view_as(parameter)
        Muon([learning, other], lr=0.1, relative=True).step()
        steps = [(now.detach() - then).flatten(1) for now, then in zip((learning, other), before, strict=True)]
        torch.testing.assert_close(steps[1], (5 if size else 1) * steps[0])
        return steps[0]

    own = torch.linalg.svdvals(drawn(4, 6)).square().mean().sqrt()
    torch.testing.assert_close(moved(1.0), -0.1 * own * orthogonal(drawn(1, 4, 6))[0])
    torch.testing.assert_close(moved(20.0), 20 * moved(1.0))
    assert moved(0.0).norm() > 0


def test_what_has_no_gradient_stays() -> None:
    idle, learning = nn.Parameter(drawn(4, 6)), nn.Parameter(drawn(4, 6))
    learning.grad = drawn(4, 6)
    Muon([idle, learning], lr=0.1).step()
    assert torch.equal(idle.detach(), drawn(4, 6))
    assert not torch.equal(learning.detach(), drawn(4, 6))


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e15])
@pytest.mark.parametrize("rank", [0, 1])
def test_what_has_hardly_any_rank_gives_finite_steps(size: float, rank: int) -> None:
    matrix = size * rank * drawn(1, 8, 1) @ drawn(1, 1, 27)
    step = orthogonal(matrix)
    assert bool(step.isfinite().all())
    largest = float(torch.linalg.matrix_norm(step, 2).max())
    # Zero stays zero, and what is as small as nothing is not blown up to a step.
    assert largest == 0 if not rank else largest < 1.3
    assert rank == 0 or size < 1 or largest > 0.6


def test_kernels_from_several_channels_are_its_matrices() -> None:
    space = SPACES["mobile"]
    network = build_network(space.published(), space.default_macro(num_classes=3, image_size=16))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    depthwise = [module for module in convolutions if module.groups > 1]
    assert depthwise
    chosen = {id(p) for p in network.parameters() if mixes_channels(p)}
    assert chosen == {id(module.weight) for module in convolutions if module.groups == 1}
