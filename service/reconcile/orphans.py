"""Jobs that live although nothing waits for them: found now and then, and stopped.

A submission may reach the cluster after its attempt was given up, and a job may outlive its own outcome. The steps look
at one attempt and at the one before; this looks at the cluster.
"""

import logging
from collections.abc import Mapping
from typing import Final

from service.errors import ClusterUnavailableError
from service.ray.jobs import JobClient, LivingJob
from service.records.adaptations import AdaptationRecords
from service.records.meta_runs import MetaRunRecords

LOOK_EVERY_S: Final = 60.0

logger = logging.getLogger(__name__)


class Orphans:
    """Stops jobs of these records that no attempt needs any more.

    It takes two looks in a row: a job that has just left its outcome may take a moment to end. Jobs of other records,
    or of somebody else, are left alone.

    Args:
        adaptations: Records of adaptations.
        meta_runs: Records of meta-runs, in the same database.
    """

    def __init__(self, adaptations: AdaptationRecords, meta_runs: MetaRunRecords) -> None:
        self._records: Mapping[str, AdaptationRecords | MetaRunRecords] = {
            "adaptation": adaptations,
            "meta-run": meta_runs,
        }
        self._looked_at_s = float("-inf")
        self._suspects: frozenset[str] = frozenset()

    def look(self, jobs: JobClient, *, now_s: float) -> None:
        """Stop what nothing needed at the last look either; nothing happens before a minute has passed since then.

        Args:
            jobs: Of the cluster.
            now_s: Seconds since the epoch, by the database's clock.
        """
        if now_s - self._looked_at_s < LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        try:
            found = frozenset(job.submission_id for job in jobs.living() if self._is_orphan(job))
            for submission_id in found & self._suspects:
                logger.warning("job=%s is stopped: nothing waits for it", submission_id)
                jobs.stop(submission_id)
        except ClusterUnavailableError as error:
            logger.warning("jobs that nothing waits for cannot be looked for now: %s", error)
            return
        self._suspects = found

    def _is_orphan(self, job: LivingJob) -> bool:
        about = job.metadata
        records = self._records.get(about.get("kind", ""))
        if records is None or about.get("service") != records.home:
            return False
        attempt = about.get("attempt", "")
        return not (attempt.isdecimal() and records.is_current(about.get("id", ""), int(attempt)))
