"""Calls that show what goes on: the overview, and what jobs print and consist of."""

from service.client.adaptations import adaptation_path
from service.client.calls import Calls
from service.client.meta_runs import meta_run_path
from service.client.requests import Request
from service.client.transport import Answer
from service.schemas import ActorPage, Overview


class WatchingCalls(Calls):
    """What goes on at a service."""

    async def overview(self) -> Overview:
        """Return the cluster, and of the own work what waits, runs and has failed; also while Ray does not answer."""
        return await self._get("/v1/overview", Overview)

    async def adaptation_log(
        self, adaptation_id: str, *, attempt: int | None = None, max_bytes: int | None = None
    ) -> str:
        """Return the end of what an adaptation's job has printed, from the beginning of a line on.

        Args:
            adaptation_id: Whose job.
            attempt: Which attempt's; None: the current one's.
            max_bytes: Most bytes of it, up to a MiB; None: 64 KiB.
        """
        return await self._log(adaptation_path(adaptation_id), attempt, max_bytes)

    async def meta_run_log(self, meta_run_id: str, *, attempt: int | None = None, max_bytes: int | None = None) -> str:
        """Return the end of what a meta-run's job has printed: see `adaptation_log`."""
        return await self._log(meta_run_path(meta_run_id), attempt, max_bytes)

    async def adaptation_actors(self, adaptation_id: str, *, attempt: int | None = None) -> ActorPage:
        """Return the actors of an adaptation's job; `attempt` None: the current one's."""
        return await self._get(f"{adaptation_path(adaptation_id)}/actors", ActorPage, attempt=attempt)

    async def meta_run_actors(self, meta_run_id: str, *, attempt: int | None = None) -> ActorPage:
        """Return the actors of a meta-run's job; `attempt` None: the current one's."""
        return await self._get(f"{meta_run_path(meta_run_id)}/actors", ActorPage, attempt=attempt)

    async def _log(self, path: str, attempt: int | None, max_bytes: int | None) -> str:
        asked = {"attempt": attempt, "max_bytes": max_bytes}
        query = {name: value for name, value in asked.items() if value is not None}
        return await self._connection.call(Request(method="GET", target=f"{path}/log", query=query), _text)


async def _text(answer: Answer) -> str:
    return (await answer.read()).decode(errors="replace")
