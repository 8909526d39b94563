"""The errors that end a run which cannot go on: what happened, and what to do about it."""

from typing import Final

from workers.contracts.errors import OutOfMemoryError, WorkersLostError
from workers.meta.elastic import Share

LOOK: Final = "in the Ray dashboard; the last checkpoint is whole."
SMALLER_SLOTS: Final = (
    "Lower joint_batch, num_support, num_query, num_arch_samples or resolutions, or use larger nodes."
)
SMALLER_TRIALS: Final = (
    "Resume the run with larger nodes; or resume and stop it, for the prior without trials. Another run may lower "
    "trials.batch_size or resolutions."
)


def nobody_came(seconds: float, share: Share) -> WorkersLostError:
    """No worker found a place."""
    return WorkersLostError(
        f"no worker came up in {seconds:.0f} s",
        expected=f"{share.cpus} CPUs and {share.gpus} GPUs for each",
        todo="Give the cluster room, or ask for smaller workers; then resume the run.",
    )


def starts_failed(number: int, why: str) -> WorkersLostError:
    """Workers found places, but none came up."""
    todo = "Look at their logs in the Ray dashboard; then resume the run."
    return WorkersLostError(f"{number} workers in a row did not come up", got=why, todo=todo)


def item_kills(item: object, number: int, why: str) -> WorkersLostError:
    """One piece of work ends all who take it."""
    return WorkersLostError(f"{item} has cost {number} workers", got=why, todo=f"Look at the workers' logs {LOOK}")


def server_keeps_dying(number: int, why: str) -> WorkersLostError:
    """The parameter actor does not get as far as its next checkpoint."""
    what = f"the parameter actor was lost {number} times without a checkpoint in between"
    return WorkersLostError(what, got=why, todo=f"Look at its log {LOOK}")


def memory_too_small(needed: str, last: str, todo: str) -> OutOfMemoryError:
    """No worker is left that has the memory."""
    return OutOfMemoryError(f"no worker has enough memory {needed}", got=f"the last was {last}", todo=todo)
