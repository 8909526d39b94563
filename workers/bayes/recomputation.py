"""A long chain of steps that can be differentiated without keeping what happened inside them.

| symbol | meaning | in code |
|---|---|---|
| x, y | what a step reads and what it makes of it | `inputs`, outputs |
| v | gradient of whatever comes later, by y | `found` |
| v dy/dx | vector-Jacobian product, which goes to whoever made x | returned by `backward` |

The forward pass keeps x and where the generator stood. The way back repeats the step from there, this time with its
graph, takes v dy/dx, and forgets the graph: a chain of L steps holds L copies of x and one graph, never L, for about
one more run of each step. With the same x and the same noise it is the same step: nothing is approximated.

Source: checkpointing, Griewank and Walther 2000. Ours, because steps that differentiate inside are beyond torch's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Sequence[Tensor], torch.Generator, bool], Sequence[Tensor]]
"""(inputs, generator, create_graph) -> outputs; a function of its inputs and of the noise that it draws. Without
`create_graph` the outputs carry no graph."""


def recomputed(step: Step, inputs: Sequence[Tensor], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return the outputs of a step, which can be differentiated once by its inputs; its graph is made only then.

    The generator moves on once, as if the step had simply been taken.
    """
    outputs: tuple[Tensor, ...] = _Recomputed.apply(step, generator, *inputs)
    return outputs


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Step, generator: torch.Generator, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        ctx.step, ctx.device, ctx.random_state = step, generator.device, generator.get_state()
        return tuple(step(inputs, generator, False))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *found: Tensor | None) -> tuple[Tensor | None, ...]:
        generator = torch.Generator(ctx.device)
        generator.set_state(ctx.random_state)
        needed = ctx.needs_input_grad[2:]
        leaves = [value.detach().requires_grad_(need) for value, need in zip(ctx.saved_tensors, needed, strict=True)]
        with torch.enable_grad():
            outputs = ctx.step(leaves, generator, True)
        reached = [(output, vector) for output, vector in zip(outputs, found, strict=True) if vector is not None]
        products = torch.autograd.grad(
            [output for output, _ in reached],
            [leaf for leaf in leaves if leaf.requires_grad],
            [vector for _, vector in reached],
            allow_unused=True,
        )
        in_turn = iter(products)
        return (None, None, *(next(in_turn) if need else None for need in needed))
