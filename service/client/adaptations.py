"""Calls on `/v1/adaptations` and `/v1/search-spaces`."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from search_spaces.errors import InvalidOptionError
from service.client.calls import UPLOAD_TIMEOUT_S, Calls, quoted
from service.client.events import follow
from service.client.requests import FormFile, Request
from service.client.retries import idempotency_headers
from service.schemas import (
    FINAL_STATES,
    AdaptationPage,
    AdaptationState,
    AdaptationView,
    ArtifactView,
    EventPage,
    EventView,
    SpaceView,
)
from workers.contracts.adaptations import AdaptationRequest

ADAPTATIONS = "/v1/adaptations"
SPACES = "/v1/search-spaces"


class AdaptationCalls(Calls):
    """Adaptations of a service, and the search spaces that they search."""

    async def create_adaptation(
        self, request: AdaptationRequest, *, archive: Path | None = None, key: str | None = None
    ) -> AdaptationView:
        """Ask for an adaptation to the dataset that `request` names, or to a zip sent along.

        Args:
            request: What is wished for.
            archive: The zip.
            key: The same request with the same key makes one adaptation, within 24 hours. Absent: a new key.

        Raises:
            InvalidOptionError: Both or neither of `request.dataset_id` and `archive` are given.
        """
        if (archive is None) == (request.dataset_id is None):
            raise InvalidOptionError("an adaptation needs one dataset", expected="either a dataset id or an archive")
        fields = request.model_dump(mode="json", exclude_none=True)
        if archive is None:
            return await self._create(ADAPTATIONS, AdaptationView, json=fields, key=key)
        sent = Request(
            method="POST",
            target=ADAPTATIONS,
            headers=idempotency_headers(key),
            form={field: str(value) for field, value in fields.items()},
            files={"dataset": FormFile(archive, "application/zip")},
            timeout_s=UPLOAD_TIMEOUT_S,
        )
        return await self._ask(sent, AdaptationView)

    async def adaptation(self, adaptation_id: str) -> AdaptationView:
        """Return one adaptation as it stands now."""
        return await self._get(adaptation_path(adaptation_id), AdaptationView)

    async def adaptations(
        self, *, state: AdaptationState | None = None, limit: int | None = None, cursor: str | None = None
    ) -> AdaptationPage:
        """Return adaptations, newest first; `cursor` is the `next_cursor` of the page before."""
        return await self._get(ADAPTATIONS, AdaptationPage, state=state, limit=limit, cursor=cursor)

    async def cancel(self, adaptation_id: str) -> AdaptationView:
        """Ask an adaptation to stop; return it as it stands then. Asking twice does what asking once does."""
        return await self._post(f"{adaptation_path(adaptation_id)}/cancel", AdaptationView)

    async def wait(
        self,
        adaptation_id: str,
        *,
        on_progress: Callable[[AdaptationView], None] | None = None,
        poll_s: float = 1.0,
    ) -> AdaptationView:
        """Return an adaptation once it has ended, however it ended.

        Args:
            adaptation_id: Which one.
            on_progress: Gets the view of every poll, the last included.
            poll_s: Seconds between polls.
        """
        while True:
            view = await self.adaptation(adaptation_id)
            if on_progress is not None:
                on_progress(view)
            if view.state in FINAL_STATES:
                return view
            await self._sleep(poll_s)

    async def adaptation_events(self, adaptation_id: str, *, after: int = 0, limit: int | None = None) -> EventPage:
        """Return what became of an adaptation after the event of sequence `after`, oldest first."""
        return await self._get(f"{adaptation_path(adaptation_id)}/events", EventPage, after=after, limit=limit)

    async def follow(
        self, adaptation_id: str, *, after: int = 0, poll_s: float = 1.0
    ) -> AsyncGenerator[EventView, None]:
        """Yield what becomes of an adaptation as it happens, until it has ended and all was told.

        The service tells by server-sent events. Where that connection breaks, or something on the way lets no stream
        through, the rest is asked for: nothing is left out and nothing told twice.

        Args:
            adaptation_id: Which one.
            after: Sequence of the last event that is known already; 0: none.
            poll_s: Seconds until a stream that has ended is asked for again.
        """

        async def ended() -> bool:
            return (await self.adaptation(adaptation_id)).state in FINAL_STATES

        async def page(after: int) -> EventPage:
            return await self.adaptation_events(adaptation_id, after=after)

        path = f"{adaptation_path(adaptation_id)}/events"
        told = follow(self._connection, path, page=page, ended=ended, after=after, poll_s=poll_s)
        async with aclosing(told) as events:
            async for event in events:
                yield event

    async def artifacts(self, adaptation_id: str) -> tuple[ArtifactView, ...]:
        """Return the list of a finished adaptation's files."""
        return await self._get(f"{adaptation_path(adaptation_id)}/artifacts", tuple[ArtifactView, ...])

    async def download(self, adaptation_id: str, artifact: ArtifactView, folder: Path) -> Path:
        """Write one artifact into `folder` under its own name, hash checked, whole or not at all; return its path.

        Raises:
            BadDownloadError: The bytes do not match the hash, or the name is no plain file name.
        """
        return await self._download(f"{adaptation_path(adaptation_id)}/artifacts", artifact, folder)

    async def search_spaces(self) -> tuple[SpaceView, ...]:
        """Return the search spaces that the service knows."""
        return await self._get(SPACES, tuple[SpaceView, ...])

    async def search_space(self, name: str) -> SpaceView:
        """Return one search space."""
        return await self._get(f"{SPACES}/{quoted(name)}", SpaceView)


def adaptation_path(adaptation_id: str) -> str:
    """Return the path of an adaptation, below the service's root."""
    return f"{ADAPTATIONS}/{quoted(adaptation_id)}"
