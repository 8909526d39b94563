"""When a meta-run whose jobs keep getting lost is given up. Pure.

A run of days on machines that come and go loses many jobs, and each time goes on from its last checkpoint: only losses
in a row without a newer checkpoint count.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Past:
    """What one attempt has left.

    Attributes:
        checkpoint_step: Of the last whole checkpoint that it knew of; None: it has told of none.
        ended: Whether it ended by itself, with a manifest or a failure: it was not lost.
    """

    checkpoint_step: int | None
    ended: bool


def is_exhausted(attempts: Iterable[Past], max_attempts: int) -> bool:
    """Return whether the last `max_attempts` attempts were all lost, and none of them got beyond those before.

    Args:
        attempts: From the newest, which was lost, to the first; no more of them are taken than are needed.
        max_attempts: Losses in a row that are too many.
    """
    reached, num_lost = 0, 0
    for past in attempts:
        if num_lost < max_attempts:
            if past.ended:
                return False
            reached, num_lost = max(reached, past.checkpoint_step or 0), num_lost + 1
        elif past.checkpoint_step is not None:
            return reached <= past.checkpoint_step
    return num_lost == max_attempts and reached == 0
