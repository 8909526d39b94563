"""The process that `import_check.run_check` starts: bounds itself, checks tensors, says the verdict as JSON."""

import json
import sys
from pathlib import Path

from safetensors import SafetensorError, safe_open

from search_spaces.errors import ArchPriorError, lookup
from search_spaces.registry import SPACES
from workers.contracts.errors import InvalidPriorError
from workers.contracts.priors import MacroSpec
from workers.tasks.check_process import bound_this_process, end_with_parent

# Tensors of another number of classes or of another image size are the same but for the head, which no prior has.
NUM_CLASSES = 2
IMAGE_SIZE = 32


def check_prior(path: Path, space_name: str, spec: MacroSpec) -> None:
    """Refuse tensors that are not all that a supernet of this space and skeleton has.

    Raises:
        ArchPriorError: Says which tensor does not fit, or that space and skeleton do not.
    """
    space = lookup(SPACES, space_name, kind="search space")
    _check_extent(path, spec)

    # Takes seconds to import, which what is refused until here need not wait for.
    import torch

    from workers.priors.model import body_shapes, full_macro
    from workers.priors.tensors import load_prior

    torch.set_num_threads(1)
    load_prior(path, space, body_shapes(space_name, full_macro(spec, num_classes=NUM_CLASSES, image_size=IMAGE_SIZE)))


def _check_extent(path: Path, spec: MacroSpec) -> None:
    """Refuse a skeleton so large that none of it could be built in order to compare: a cell has several tensors.

    A convolution has as many weights as the square of its channels, each of a byte at least.
    """
    try:
        with safe_open(path, framework="np") as file:
            num_tensors = len(file.keys())
    except (SafetensorError, OSError) as error:
        raise InvalidPriorError(f"the prior's tensors cannot be read: {error}") from error
    if spec.num_cells > num_tensors or spec.num_channels**2 > path.stat().st_size:
        got = f"{spec.num_cells} cells, {spec.num_channels} channels"
        raise InvalidPriorError("the skeleton of the prior is larger than its tensors", got=got)


def verdict(path: Path, space_name: str, spec: MacroSpec) -> dict[str, object]:
    """Return `{}` where the tensors fit, else `{"error": ...}`, ready for JSON."""
    try:
        check_prior(path, space_name, spec)
    except ArchPriorError as error:
        return {"error": error.to_dict()}
    except MemoryError:
        return {"error": InvalidPriorError("the check of the prior needs too much memory").to_dict()}
    return {}


if __name__ == "__main__":
    place, name, macro, bounds = sys.argv[1:]
    end_with_parent()
    bound_this_process(**json.loads(bounds))
    sys.stdout.write(json.dumps(verdict(Path(place), name, MacroSpec.model_validate_json(macro))))
