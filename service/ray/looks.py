"""What the job of an attempt has printed, and its actors: asked of the cluster at each look."""

from service.adaptations.views import has_job, job_page
from service.attempt_files import JobFiles, submission_id
from service.errors import NotFoundError
from service.ray.cluster import Cluster
from service.ray.observer import Actor
from service.records.model import Adaptation, MetaRun
from service.schemas import ActorPage, ActorView


def job_log(
    cluster: Cluster, work: Adaptation | MetaRun, files: JobFiles, *, attempt: int | None, num_bytes: int
) -> str:
    """Return the end of what an attempt's job has printed, from the beginning of a line on.

    Args:
        cluster: Where it runs or ran.
        work: Whose job it is.
        files: Of the current attempt.
        attempt: Which one; None: the current one.
        num_bytes: Most bytes of it.

    Raises:
        NotFoundError: That attempt has no job, or Ray does not know it any more.
        ClusterUnavailableError: Ray does not answer.
    """
    job_id = _job_id(work, files, attempt)
    # One byte more than is wished for says whether there is more before.
    return _whole_lines(cluster.observer().log(job_id, num_bytes=num_bytes + 1), num_bytes).decode(errors="replace")


def job_actors(cluster: Cluster, work: Adaptation | MetaRun, files: JobFiles, *, attempt: int | None) -> ActorPage:
    """Return the actors of an attempt's job; for the rest see `job_log`."""
    job_id = _job_id(work, files, attempt)
    found = cluster.observer().actors(job_id)
    url = cluster.dashboard_url
    # The dashboard's page filters actors by the id that Ray gave the job, and finds none by ours.
    page = None if url is None or found.ray_id is None else f"{job_page(url, found.ray_id)}/actors"
    actors = sorted(found.actors, key=lambda actor: (actor.name or actor.kind, actor.id))
    return ActorPage(job_id=job_id, dashboard=page, items=tuple(_view(actor, url) for actor in actors))


def _job_id(work: Adaptation | MetaRun, files: JobFiles, attempt: int | None) -> str:
    chosen = attempt or work.attempt
    if chosen > work.attempt:
        raise NotFoundError("no such attempt", got=chosen, expected=f"1 to {work.attempt}")
    if chosen == work.attempt and not has_job(work, files.was_started):
        todo = f"?attempt={chosen - 1} asks for the one before." if chosen > 1 else "It gets one once its turn comes."
        raise NotFoundError("this attempt has no job", got=work.state, todo=todo)
    return submission_id(work, chosen)


def _whole_lines(data: bytes, num_bytes: int) -> bytes:
    """Return at most the last `num_bytes`, without the line that begins before them, unless it is the only one."""
    if len(data) <= num_bytes:
        return data
    return data.partition(b"\n")[2] or data[-num_bytes:]


def _view(actor: Actor, dashboard_url: str | None) -> ActorView:
    return ActorView(
        id=actor.id,
        name=actor.name,
        kind=actor.kind,
        state=actor.state,
        pid=actor.pid,
        node_id=actor.node_id,
        dashboard=None if dashboard_url is None else f"{dashboard_url}/#/actors/{actor.id}",
    )
