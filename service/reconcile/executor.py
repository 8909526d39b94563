"""Looks at all work that has not ended, and takes the next step of each."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from service.attempt_files import Attempted
from service.cluster import Cluster
from service.errors import ClusterUnavailableError
from service.jobs import Capacity, NoJobs
from service.reconcile.adaptations import AdaptationSteps
from service.reconcile.caps import need_of, worker_caps
from service.reconcile.meta_runs import KEEP_CAP, Cap, MetaRunSteps
from service.records.lease import Lease
from service.records.model import Adaptation, MetaRun
from workers.adapt.plan import MAX_CPUS_PER_WORKER
from workers.contracts.errors import StoreError

Work = TypeVar("Work", bound=Attempted)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reconciler:
    """Brings what is recorded and what is real together.

    Attributes:
        adaptations: What takes them a step further.
        meta_runs: What takes them a step further.
        cluster: Where jobs run.
        lease: The right to act.
        max_submitted: Jobs of adaptations that may be submitted at once; None: as many as the cluster has CPUs for, at
            least one.
        max_meta_runs: Jobs of meta-runs that may be submitted at once, of those that learn and of comparisons each: a
            comparison of minutes does not wait for a run of days.
    """

    adaptations: AdaptationSteps
    meta_runs: MetaRunSteps
    cluster: Cluster
    lease: Lease
    max_submitted: int | None
    max_meta_runs: int

    def step(self) -> None:
        """Look at everything that has not ended and take its next step; nothing if another process acts.

        Raises:
            ClusterUnavailableError: The cluster cannot be reached, or refused something; all the rest was done.
        """
        if not self.lease.acquire():
            return
        try:
            jobs, unavailable = self.cluster.connect(), None
        except ClusterUnavailableError as error:
            jobs, unavailable = NoJobs(error), error
        up = unavailable is None
        adaptations, meta_runs = self.adaptations.records.unfinished(), self.meta_runs.records.unfinished()
        capacity = self._capacity(adaptations, meta_runs) if up else None
        due = _due(adaptations, self._num_slots(capacity) if up else 0)
        meta_due = _due_of_each_kind(meta_runs, self.max_meta_runs if up else 0)
        now_s = self.adaptations.records.now()
        self.adaptations.watch(adaptations, now_s=now_s)
        if adaptations:
            caps = self._caps(due, meta_due, capacity, now_s=now_s)
        else:
            caps = dict.fromkeys((one.id for one in meta_due), None)
        steps: list[tuple[Attempted, Callable[[], None]]] = [
            *((one, partial(self.adaptations.advance, one, jobs, now_s=now_s)) for one in due),
            *((one, partial(self.meta_runs.advance, one, jobs, now_s=now_s, cap=caps[one.id])) for one in meta_due),
        ]
        for work, advance in steps:
            if not self.lease.acquire():
                return  # a step may take longer than the lease lasts
            # The trouble of one must not hold the others up; it is looked at again in the next step.
            try:
                advance()
            except StoreError as error:
                logger.warning("work=%s attempt=%d %s", work.id, work.attempt, error)
            except ClusterUnavailableError as error:
                unavailable = error
        if unavailable is not None:
            raise unavailable

    def _capacity(self, adaptations: Sequence[Adaptation], meta_runs: Sequence[MetaRun]) -> Capacity | None:
        """Return what the cluster has; None where nothing depends on it, or where it cannot be asked."""
        for_slots = self.max_submitted is None and any(one.state == "QUEUED" for one in adaptations)
        for_caps = bool(adaptations) and any(one.state != "QUEUED" for one in meta_runs)
        if not (for_slots or for_caps):
            return None
        try:
            return self.cluster.capacity()
        except ClusterUnavailableError:
            return None

    def _num_slots(self, capacity: Capacity | None) -> int:
        if self.max_submitted is not None:
            return self.max_submitted
        return 0 if capacity is None else max(1, capacity.cpus // MAX_CPUS_PER_WORKER)

    def _caps(
        self,
        adaptations: Sequence[Adaptation],
        meta_runs: Sequence[MetaRun],
        capacity: Capacity | None,
        *,
        now_s: float,
    ) -> Mapping[str, Cap]:
        """Return the worker cap of each meta-run that runs or is due, so that these adaptations find room."""
        keep: dict[str, Cap] = dict.fromkeys((one.id for one in meta_runs), KEEP_CAP)
        running = [one for one in meta_runs if one.state != "QUEUED"]
        if capacity is None or not running:
            return keep
        try:
            starved = [self.adaptations.is_starved(one, now_s=now_s) for one in adaptations]
        except StoreError:
            return keep
        needs = [need_of(one, capacity, starved=hungry) for one, hungry in zip(adaptations, starved, strict=True)]
        return {**keep, **worker_caps(capacity, needs, running)}


def _due(works: Sequence[Work], num_slots: int) -> tuple[Work, ...]:
    """Return what is to be looked at: all that has a job, and of what waits as much as finds a slot, oldest first."""
    queued = [work for work in works if work.state == "QUEUED"]
    num_free = max(0, num_slots - (len(works) - len(queued)))
    starting = {work.id for work in queued[:num_free]}
    return tuple(work for work in works if work.state != "QUEUED" or work.id in starting)


def _due_of_each_kind(meta_runs: Sequence[MetaRun], num_slots: int) -> tuple[MetaRun, ...]:
    """Return what is to be looked at, each kind with that many slots, oldest first."""
    kinds = {one.request.kind for one in meta_runs}
    due = {one.id for kind in kinds for one in _due([run for run in meta_runs if run.request.kind == kind], num_slots)}
    return tuple(one for one in meta_runs if one.id in due)
