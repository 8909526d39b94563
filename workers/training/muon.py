"""Muon: momentum whose steps are made orthogonal, for the matrices of a network (Jordan et al., 2024).

torch has it for single matrices, in bfloat16, which a CPU without that type emulates: ten times as slow there as this
one, in float32 and batched, where a step of a small network takes hardly longer. See https://kellerjordan.github.io/posts/muon.
"""

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

# Of the odd quintic that moves singular values towards one, chosen by the author for its slope at zero.
COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS: Final = 5
EPS: Final = 1e-7
# Of a matrix that has none: it shall learn, too.
LEAST_SIZE: Final = 0.01


def mixes_channels(parameter: Tensor) -> bool:
    """Tell whether a parameter is the kernel of a convolution from several channels: a matrix for Muon.

    The stem is one too. A depthwise kernel is not: its rows are filters that have nothing to do with each other. A
    classifier is not either, by Muon's author.
    """
    return parameter.ndim == 4 and parameter.shape[1] > 1


class Muon(torch.optim.Optimizer):
    """Steps of one length along each matrix: those of momentum, with singular values near one.

    Args:
        parameters: Of two dimensions or more: the first is the matrix's rows, all others its columns. One whose `grad`
            is None stays as it is.
        lr: Length of a step, of about its largest singular value; times the root of rows over columns where columns are
            fewer.
        momentum: Nesterov's.
        relative: Whether `lr` is a share of the matrix's own size, the root mean square of its singular values. What a
            batch norm follows computes the same at any size, but learns the slower the larger it is.
    """

    def __init__(
        self, parameters: Iterable[Tensor], *, lr: float, momentum: float = 0.9, relative: bool = False
    ) -> None:
        # torch takes no empty list, but an empty group.
        super().__init__([{"params": list(parameters)}], {"lr": lr, "momentum": momentum, "relative": relative})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # torch's takes a closure; no caller here evaluates a loss twice
        """Take one step; matrices of one shape share the arithmetic."""
        for group in self.param_groups:
            of_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.shape[0]
                    direction = self._direction(parameter, parameter.grad, group["momentum"])
                    matrices = of_shape.setdefault((rows, parameter.numel() // rows), [])
                    matrices.append((parameter, direction))
            for (rows, columns), matrices in of_shape.items():
                steps = orthogonal(torch.stack([direction.reshape(rows, columns) for _, direction in matrices]))
                if group["relative"]:
                    steps = steps * sizes(torch.stack([parameter.reshape(rows, columns) for parameter, _ in matrices]))
                lr = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (parameter, _), step in zip(matrices, steps, strict=True):
                    parameter.sub_(step.view_as(parameter), alpha=lr)

    def _direction(self, parameter: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"].mul_(momentum).add_(gradient)
        return gradient.add(buffer, alpha=momentum)


def sizes(matrices_NRC: Tensor) -> Tensor:
    """Return the root mean square of each matrix's singular values [N, 1, 1], for [N, R, C]."""
    rank = min(matrices_NRC.shape[1:])
    norms_N11: Tensor = torch.linalg.matrix_norm(matrices_NRC, keepdim=True)
    found: Tensor = (norms_N11 / rank**0.5).clamp_min(LEAST_SIZE)
    return found


def orthogonal(matrices_NRC: Tensor) -> Tensor:
    """Return each matrix with singular values near one, 0.6 to 1.3, by Newton-Schulz iterations.

    Singular values below a hundredth of the matrix's norm come less near, at most 485 times as large; zero stays zero.

    Each iteration multiplies X by a polynomial of X X^T. These commute, so they are gathered, and the Gram matrix is
    formed once, over the shorter side: two products as large as X instead of two an iteration.

    Args:
        matrices_NRC: float32 [N, R, C].
    """
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.mT if tall else matrices_NRC
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + EPS)
    gram = x @ x.mT
    a, b, c = COEFFICIENTS
    identity = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    factor = identity.expand_as(gram)
    for _ in range(NUM_ITERATIONS):
        polynomial = torch.baddbmm(b * gram, gram, gram, alpha=c) + a * identity
        factor = polynomial @ factor
        gram = polynomial @ gram @ polynomial
    near: Tensor = factor @ x
    return near.mT if tall else near
