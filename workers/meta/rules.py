"""How an attempt of a meta-run goes, and how it ends."""

from dataclasses import dataclass, field

from workers.contracts.meta_config import MetaConfig
from workers.meta.board import Patience
from workers.meta.crew import Handle
from workers.meta.elastic import Share


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How an attempt goes.

    Attributes:
        config: What is learned, and how.
        share: What each worker takes of the cluster.
        class_names: Of the classes that are learned from, by label: the parameter actor then need not wait for a worker
            to tell them. None: the first worker tells.
        max_workers: Of the request.
        curve_tasks: Held-out tasks of each point of the curves.
        budget_s: Seconds of learning that this attempt may take; None: no limit.
        patience: With slow and hung workers.
        start_s: Seconds for a worker to come up, and for the run to have any.
        drain_s: Seconds that a worker that is to go may spend on what it has begun.
    """

    config: MetaConfig
    share: Share
    max_workers: int | None
    curve_tasks: int
    class_names: tuple[str, ...] | None = None
    budget_s: float | None = None
    patience: Patience = field(default_factory=Patience)
    start_s: float = 3600.0
    drain_s: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Learned:
    """How learning ended.

    Attributes:
        version: Steps taken.
        complete: Whether these are all.
        prior: The last version, with the persistent heads.
    """

    version: int
    complete: bool
    prior: Handle
