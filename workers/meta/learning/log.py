"""The log of a meta-training (`log.jsonl`): one entry for each step."""

from collections.abc import Iterable

from workers.contracts.base import Contract


class StepEntry(Contract):
    """What one meta-step did.

    Attributes:
        step: Before it was taken, from 0.
        loss: Mean over its slots, in nats per example.
        norms: Gradient norm by group, before clipping.
        entropy: Of each decision after it, in nats.
        staleness: Mean versions between its gradients and the prior that they moved; None: synchronous.
        held_out: Mean accuracy on held-out tasks after it, by number of inner steps; None: not judged.
    """

    step: int
    loss: float
    norms: dict[str, float]
    entropy: tuple[float, ...]
    staleness: float | None = None
    held_out: dict[int, float] | None = None


def read_log(lines: Iterable[str]) -> list[StepEntry]:
    """Return the entries of a log, one a line."""
    return [StepEntry.model_validate_json(line) for line in lines]


def log_lines(entries: Iterable[StepEntry]) -> str:
    """Return entries as the text of a log."""
    return "".join(entry.model_dump_json(exclude_none=True) + "\n" for entry in entries)
