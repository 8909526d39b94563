"""Calls on the service itself: how it does, and what it keeps."""

from functools import partial

from service.client.calls import Calls, parsed
from service.client.requests import Request
from service.schemas import GcForm, GcReport, Health


class HousekeepingCalls(Calls):
    """How a service does, and what it keeps."""

    async def health(self) -> Health:
        """Return whether the service answers at all."""
        return await self._get("/healthz", Health)

    async def ready(self) -> Health:
        """Return whether the service can take work, or in `parts` why not. Asked once, without retries."""
        request = Request(method="GET", target="/readyz", idempotent=False, accepted=frozenset({503}))
        return await self._connection.call(request, partial(parsed, schema=Health))

    async def gc(self, *, apply: bool = False) -> GcReport:
        """Return what nobody needs any more, and where `apply` says so, remove it; operators only.

        A removal is never retried: what a first try has removed, the second would not report.
        """
        asked = GcForm(apply=apply).model_dump(mode="json")
        return await self._post("/v1/gc", GcReport, json=asked, idempotent=not apply)
