"""The file of a meta-prior: option logits, weight means and log scales in one safetensors file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from search_spaces.spec import SearchSpace
from workers.bayes.distributions import MetaPrior
from workers.contracts.errors import InvalidPriorError

FORMAT_VERSION: Final = "1"
"""Noted in the file's metadata; a file without it is of version 1."""


def save_prior(prior: MetaPrior, path: Path) -> None:
    """Write a prior. Weight means are kept in half precision, which moves no logit by more than training noise does."""
    arrays = {
        name: (value.half() if name.startswith("loc/") else value.float()).contiguous()
        for name, value in prior.to_arrays().items()
    }
    save_file(arrays, path, metadata={"format_version": FORMAT_VERSION})


def load_prior(path: Path, space: SearchSpace, shapes: Mapping[str, torch.Size]) -> MetaPrior:
    """Read a prior and check that it fits a supernet.

    Args:
        path: What `save_prior` wrote.
        space: Fixes the shape [E, O] of the logits.
        shapes: Of every weight the supernet has, head left out, by name.

    Raises:
        InvalidPriorError: Not such a file, one of a newer format, or a tensor is missing, surplus, misshapen or not
            finite.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            version = (file.metadata() or {}).get("format_version", FORMAT_VERSION)
            names = file.keys()  # of a file that is no mapping
            arrays = {name: file.get_tensor(name).float() for name in names}
    except (SafetensorError, OSError) as error:
        raise InvalidPriorError(f"the prior's tensors cannot be read: {error}") from error
    if version != FORMAT_VERSION:
        raise InvalidPriorError(
            "the prior's tensors were written by a newer ArchPrior",
            got=f"format version {version}",
            expected=FORMAT_VERSION,
            todo="Update ArchPrior wherever it runs: the service, and every node of the cluster.",
        )
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
