"""The job of an attempt, as the reconciler sees and ends it."""

from service.attempt_files import Attempted, submission_id
from service.errors import ClusterUnavailableError, InvalidAttemptFileError
from service.ray.jobs import ALIVE, JobClient, JobReport, JobStatus
from service.schemas import Problem


def job_of(jobs: JobClient, work: Attempted) -> JobReport:
    """Return how the job of the current attempt is; UNKNOWN where the cluster cannot be asked."""
    try:
        return jobs.report(submission_id(work))
    except ClusterUnavailableError as error:
        return JobReport(status=JobStatus.UNKNOWN, message=str(error))


def stop_living(jobs: JobClient, work: Attempted, job: JobReport) -> None:
    """Stop a job that lives although its attempt is decided: one of its workers may hang, and hold its CPUs."""
    if job.status in ALIVE:
        jobs.stop(submission_id(work))


def stop_late(jobs: JobClient, work: Attempted) -> None:
    """Stop the job of the attempt before, should it have started after it was given up.

    A submission whose answer did not come may reach the cluster later than anyone waits for it.
    """
    if work.state == "QUEUED" or work.attempt == 1:
        return
    late = submission_id(work, work.attempt - 1)
    try:
        if jobs.report(late).status in ALIVE:
            jobs.stop(late)
    except ClusterUnavailableError:
        return  # asked again at the next look


def unreadable(kind: str, error: InvalidAttemptFileError, *, todo: str) -> Problem:
    """Return the problem of work whose outcome cannot be read.

    Args:
        kind: Of the work, with its article: `the adaptation`.
        error: What was found.
        todo: What to do once versions agree: `post the adaptation again`.
    """
    return Problem(
        title=f"{kind.capitalize()}'s outcome cannot be read",
        status=500,
        detail=str(error),
        code=error.code,
        todo=f"Are the service and its jobs of the same version? Then {todo}.",
    )
