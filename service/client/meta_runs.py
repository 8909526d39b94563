"""Calls on `/v1/meta-runs`."""

from collections.abc import Callable
from pathlib import Path

from service.client.calls import Calls, quoted
from service.schemas import (
    SETTLED_META_STATES,
    ArtifactView,
    MetaEventPage,
    MetaRunPage,
    MetaRunState,
    MetaRunView,
)
from workers.contracts.meta_runs import MetaRunRequest

META_RUNS = "/v1/meta-runs"


class MetaRunCalls(Calls):
    """Meta-runs of a service."""

    async def create_meta_run(self, request: MetaRunRequest, *, key: str | None = None) -> MetaRunView:
        """Ask for a meta-run; the same request with the same `key` makes one, within 24 hours. Absent: a new key."""
        return await self._create(
            META_RUNS, MetaRunView, json=request.model_dump(mode="json", exclude_none=True), key=key
        )

    async def meta_run(self, meta_run_id: str) -> MetaRunView:
        """Return one meta-run as it stands now."""
        return await self._get(meta_run_path(meta_run_id), MetaRunView)

    async def meta_runs(
        self, *, state: MetaRunState | None = None, limit: int | None = None, cursor: str | None = None
    ) -> MetaRunPage:
        """Return meta-runs, newest first; `cursor` is the `next_cursor` of the page before."""
        return await self._get(META_RUNS, MetaRunPage, state=state, limit=limit, cursor=cursor)

    async def events(self, meta_run_id: str, *, after: int = 0, limit: int | None = None) -> MetaEventPage:
        """Return events of a meta-run's current attempt that follow the one of sequence `after`, oldest first."""
        return await self._get(f"{meta_run_path(meta_run_id)}/events", MetaEventPage, after=after, limit=limit)

    async def stop_meta_run(self, meta_run_id: str) -> MetaRunView:
        """Ask a meta-run to end early and publish the prior so far; asking twice does what asking once does.

        One that waits publishes nothing: its checkpoints stay, and a resume goes on from them. A comparison is refused.
        """
        return await self._post(f"{meta_run_path(meta_run_id)}/stop", MetaRunView)

    async def resume_meta_run(self, meta_run_id: str) -> MetaRunView:
        """Ask a stopped or failed meta-run to go on from its last checkpoint. Never retried: it may fail at once."""
        return await self._post(f"{meta_run_path(meta_run_id)}/resume", MetaRunView, idempotent=False)

    async def cancel_meta_run(self, meta_run_id: str) -> MetaRunView:
        """Ask a meta-run to end and publish nothing; asking twice does what asking once does."""
        return await self._post(f"{meta_run_path(meta_run_id)}/cancel", MetaRunView)

    async def wait_meta_run(
        self, meta_run_id: str, *, on_progress: Callable[[MetaRunView], None] | None = None, poll_s: float = 1.0
    ) -> MetaRunView:
        """Return a meta-run once no job of it runs any more, however that came.

        Args:
            meta_run_id: Which one.
            on_progress: Gets the view of every poll, the last included.
            poll_s: Seconds between polls.
        """
        while True:
            view = await self.meta_run(meta_run_id)
            if on_progress is not None:
                on_progress(view)
            if view.state in SETTLED_META_STATES:
                return view
            await self._sleep(poll_s)

    async def meta_run_artifacts(self, meta_run_id: str) -> tuple[ArtifactView, ...]:
        """Return the list of a finished meta-run's files."""
        return await self._get(f"{meta_run_path(meta_run_id)}/artifacts", tuple[ArtifactView, ...])

    async def download_meta_run(self, meta_run_id: str, artifact: ArtifactView, folder: Path) -> Path:
        """Write one artifact into `folder` under its own name, hash checked, whole or not at all; return its path.

        Raises:
            BadDownloadError: The bytes do not match the hash, or the name is no plain file name.
        """
        return await self._download(f"{meta_run_path(meta_run_id)}/artifacts", artifact, folder)


def meta_run_path(meta_run_id: str) -> str:
    """Return the path of a meta-run, below the service's root."""
    return f"{META_RUNS}/{quoted(meta_run_id)}"
