"""Whether tensors that somebody hands in are those of a meta-prior. Free of torch, unlike the process it starts."""

import json
from pathlib import Path
from typing import Final

from workers.contracts.errors import InvalidPriorError
from workers.contracts.priors import PriorCard
from workers.tasks.check_process import Checks, run_module

TIMEOUT_S: Final = 120
# Address space that torch takes before it does anything, and that tensors take while they are converted and compared.
TORCH_BYTES: Final = 8 << 30
BYTES_PER_BYTE: Final = 12


def run_check(tensors: Path, card: PriorCard, checks: Checks | None = None) -> None:
    """Refuse tensors that do not fit the space and the skeleton that a card names, or are not finite.

    They are read in a process of its own with bounded memory and time.

    Args:
        tensors: What should be a `prior.safetensors`.
        card: Of the prior.
        checks: Where the process is to be found while it runs.

    Raises:
        InvalidPriorError: They are not; says which tensor, or that the check ran out of memory or time.
        CheckKilledError: The process was killed from outside.
        CheckFailedError: The check failed by a fault of its own; the log tells it.
    """
    bounds = {
        "max_memory_bytes": TORCH_BYTES + BYTES_PER_BYTE * tensors.stat().st_size,
        "timeout_s": TIMEOUT_S,
    }
    arguments = (str(tensors.absolute()), card.search_space, card.macro.model_dump_json(), json.dumps(bounds))
    ended = run_module("workers.priors.check_prior", *arguments, timeout_s=TIMEOUT_S, checks=checks or Checks())
    if ended.out_of_time:
        raise InvalidPriorError(f"the check of the prior took longer than {TIMEOUT_S} s")
    if ended.crashed_by is not None:
        raise InvalidPriorError("the prior's tensors ended the process that read them", got=ended.crashed_by)
    if ended.code != 0:
        raise ended.without_verdict("prior")
    verdict = json.loads(ended.output)
    if "error" in verdict:
        raise InvalidPriorError.from_dict(verdict["error"])
