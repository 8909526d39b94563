"""The file of a meta-prior: option logits, weight means and log scales in one safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces.spec import SearchSpace
from workers.bayes.distributions import MetaPrior
from workers.contracts.errors import InvalidPriorError


def save_prior(prior: MetaPrior, path: Path) -> None:
    """Write a prior. Weight means are kept in half precision, which moves no logit by more than training noise does."""
    arrays = {
        name: (value.half() if name.startswith("loc/") else value.float()).contiguous()
        for name, value in prior.to_arrays().items()
    }
    save_file(arrays, path)


def load_prior(path: Path, space: SearchSpace, shapes: Mapping[str, torch.Size]) -> MetaPrior:
    """Read a prior and check that it fits a supernet.

    Args:
        path: What `save_prior` wrote.
        space: Fixes the shape [E, O] of the logits.
        shapes: Of every weight the supernet has, head left out, by name.

    Raises:
        InvalidPriorError: Not such a file, or a tensor is missing, surplus, misshapen or not finite.
    """
    try:
        arrays = {name: value.float() for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise InvalidPriorError(f"the prior's tensors cannot be read: {error}") from error
    expected = {"arch_logits": torch.Size((space.num_decisions, space.num_options))}
    expected |= {f"loc/{name}": shape for name, shape in shapes.items()}
    for name, shape in expected.items():
        if name not in arrays or arrays[name].shape != shape:
            got = list(arrays[name].shape) if name in arrays else "no such tensor"
            raise InvalidPriorError(f"tensor {name} of the prior", got=got, expected=str(list(shape)))
    _check_rest(arrays, expected)
    return MetaPrior.from_arrays(
        {name: _channels_last(value) if value.ndim == 4 else value for name, value in arrays.items()}
    )


def _check_rest(arrays: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> None:
    for name, value in arrays.items():
        if not torch.isfinite(value).all():
            raise InvalidPriorError(f"tensor {name} of the prior holds values that are not finite")
        if name not in expected and not name.startswith("log_scale/"):
            raise InvalidPriorError("the prior holds a tensor that its supernet lacks", got=name)


def _channels_last(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last)
