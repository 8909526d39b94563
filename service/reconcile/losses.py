"""How often the jobs of a meta-run have been lost in a row. Pure.

A run of days on machines that come and go loses many jobs, and each time goes on from its last checkpoint, or its last
trial: only losses without a newer one count.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Past:
    """What one attempt has left.

    Attributes:
        kept: How far it knew that the run had come: steps of the last whole checkpoint, and trials after all steps.
            None: it has told of none.
        ended: Whether it came to an end, or never began, rather than being lost: what follows was begun on purpose.
    """

    kept: int | None
    ended: bool


def num_in_a_row(attempts: Iterable[Past]) -> int:
    """Return how many of the last attempts were lost and did not get beyond those before; 0: the last one did.

    Those before an end do not count, but how far they came does: going on from there is no progress.

    Args:
        attempts: From the newest, which was lost, to the first; no more of them are taken than are needed.
    """
    reached, num_since, num, counts = 0, 0, 0, True
    for past in attempts:
        step = past.kept or 0
        if step and step >= reached:  # it had come as far already as those after it
            reached, num_since = step, num
        elif past.kept is not None and step < reached:
            return num_since
        counts = counts and not past.ended
        num += counts
    return num_since if reached else num
