"""What `/v1/overview`, and the lists of actors, return."""

from datetime import datetime
from typing import Literal

from workers.contracts.base import Contract

WorkKind = Literal["adaptation", "meta-run"]


class ActorView(Contract):
    """An actor of a job, as Ray knows it.

    Attributes:
        name: That it was given; empty for those of Ray Train, which gives none.
        kind: Name of its class.
        state: As Ray calls it: ALIVE, PENDING_CREATION, DEAD, ...
        pid: Of its process, where it has one.
        dashboard: Its page in the Ray dashboard.
    """

    id: str
    name: str = ""
    kind: str
    state: str
    pid: int | None = None
    node_id: str | None = None
    dashboard: str | None = None


class ActorPage(Contract):
    """The actors of an attempt's job, dead ones too, by name.

    Attributes:
        job_id: What Ray knows the job by.
        dashboard: Page of the Ray dashboard with this list; None: the job's process has not reached Ray yet.
    """

    job_id: str
    dashboard: str | None = None
    items: tuple[ActorView, ...]


class AmountView(Contract):
    """CPUs or GPUs of a cluster: all of them, and how many work has taken; None: Ray does not say."""

    total: float
    used: float | None = None


class ClusterView(Contract):
    """The Ray cluster that everybody's jobs run on.

    Attributes:
        why: Why it cannot be reached, where it cannot.
        num_nodes: That live, like what follows, where it can be reached.
        dashboard: Address of the Ray dashboard.
    """

    reachable: bool
    why: str = ""
    num_nodes: int | None = None
    cpus: AmountView | None = None
    gpus: AmountView | None = None
    dashboard: str | None = None


class WorkLinks(Contract):
    """Where to look further: see `Links`."""

    self: str
    dashboard: str | None = None
    log: str | None = None
    actors: str | None = None


class WaitingWork(Contract):
    """Work that waits.

    Attributes:
        position: How many of its kind are served before.
    """

    kind: WorkKind
    id: str
    name: str = ""
    position: int
    attempt: int
    links: WorkLinks


class RunningWork(Contract):
    """Work of which a job runs.

    Attributes:
        phase: What it is doing; empty where that is not known.
        fraction: Share of the work that is done, 0 to 1.
        eta_s: Estimated seconds until its end.
    """

    kind: WorkKind
    id: str
    name: str = ""
    state: str
    attempt: int
    phase: str = ""
    fraction: float | None = None
    eta_s: float | None = None
    links: WorkLinks


class FailureView(Contract):
    """What has failed, or was refused: in one line.

    Attributes:
        code: Stable name of the kind of error.
        at: When.
    """

    kind: Literal[WorkKind, "dataset"]
    id: str
    name: str = ""
    at: datetime
    code: str
    message: str
    links: WorkLinks


class CheckingDataset(Contract):
    """A dataset that is being checked, or copied first."""

    id: str
    name: str
    num_bytes: int
    since: datetime


class Overview(Contract):
    """What there is to know at a glance: the cluster, and the caller's own work. The lists are short.

    Attributes:
        counts: How much of the caller's work is in each state that is not final, by kind of work.
        running: The oldest first.
        waiting: In the order in which it is served.
        failures: The newest first.
        free_bytes: Of the disk that holds the service's data folder.
    """

    at: datetime
    cluster: ClusterView
    counts: dict[WorkKind, dict[str, int]]
    running: tuple[RunningWork, ...] = ()
    waiting: tuple[WaitingWork, ...] = ()
    failures: tuple[FailureView, ...] = ()
    checking: tuple[CheckingDataset, ...] = ()
    free_bytes: int
