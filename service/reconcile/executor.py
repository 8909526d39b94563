"""Looks at all work that has a job, and at what finds a slot of what waits, and takes the next step of each.

What waits behind these stays in the records: memory does not grow with the queue."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final, get_args

from service.attempt_files import Attempted
from service.errors import ClusterUnavailableError
from service.ray.cluster import Cluster
from service.ray.jobs import Capacity, NoJobs
from service.reconcile.adaptations import AdaptationSteps
from service.reconcile.caps import need_of, worker_caps
from service.reconcile.meta_runs import KEEP_CAP, Cap, MetaRunSteps
from service.reconcile.orphans import Orphans
from service.records.lease import Lease
from service.records.model import Adaptation, MetaRun
from workers.adapt.plan import MAX_CPUS_PER_WORKER
from workers.contracts.errors import StoreError
from workers.contracts.meta_runs import Kind

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

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
        running, meta_running = self.adaptations.records.active(), self.meta_runs.records.active()
        waits = bool(self.adaptations.records.waiting(1))
        capacity = self._capacity(waits=waits, running=running, meta_running=meta_running) if up else None
        num_slots = self._num_slots(capacity) if up else 0
        due = (*running, *self.adaptations.records.waiting(max(0, num_slots - len(running))))
        meta_due = (*meta_running, *self._meta_waiting(meta_running)) if up else meta_running
        now_s = self.adaptations.records.now()
        self.adaptations.watch(running, now_s=now_s)
        self.meta_runs.watch(meta_running)
        if running or waits:
            caps = self._caps(due, meta_due, capacity, now_s=now_s)
        else:
            caps = dict.fromkeys((one.id for one in meta_due), None)
        steps: list[tuple[Attempted, Callable[[], None]]] = [
            *((one, partial(self.adaptations.advance, one, jobs, now_s=now_s)) for one in due),
            *((one, partial(self.meta_runs.advance, one, jobs, now_s=now_s, cap=caps[one.id])) for one in meta_due),
        ]
        for work, advance in steps:
            if not self.lease.keep():
                return  # a step may take longer than the lease lasts
            # The trouble of one must not hold the others up; it is looked at again in the next step.
            try:
                advance()
            except StoreError as error:
                logger.warning("work=%s attempt=%d %s", work.id, work.attempt, error)
            except ClusterUnavailableError as error:
                unavailable = error
        if up and self.lease.keep():
            self._orphans.look(jobs, now_s=now_s)
        if unavailable is not None:
            raise unavailable

    @cached_property
    def _orphans(self) -> Orphans:
        return Orphans(self.adaptations.records, self.meta_runs.records)

    def _capacity(
        self, *, waits: bool, running: Sequence[Adaptation], meta_running: Sequence[MetaRun]
    ) -> Capacity | None:
        """Return what the cluster has; None where nothing depends on it, or where it cannot be asked."""
        for_slots = self.max_submitted is None and waits
        for_caps = bool(meta_running) and (waits or bool(running))
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

    def _meta_waiting(self, running: Sequence[MetaRun]) -> tuple[MetaRun, ...]:
        """Return the meta-runs that find a slot of their kind."""
        num_running = Counter(one.request.kind for one in running)
        return tuple(
            one
            for kind in KINDS
            for one in self.meta_runs.records.waiting(max(0, self.max_meta_runs - num_running[kind]), queue=kind)
        )

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
