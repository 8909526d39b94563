"""Calls on `/v1/priors`."""

from pathlib import Path

from service.client.calls import UPLOAD_TIMEOUT_S, Calls, quoted
from service.client.requests import FormFile, Request
from service.schemas import ArtifactView, Comparison, MetaRunView, PriorPage, PriorView, PromotionPage

PRIORS = "/v1/priors"
MAX_PAGE = 100


class PriorCalls(Calls):
    """Meta-priors of a service."""

    async def priors(
        self, *, search_space: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> PriorPage:
        """Return meta-priors, the bundled ones first; `cursor` is the `next_cursor` of the page before."""
        return await self._get(PRIORS, PriorPage, search_space=search_space, limit=limit, cursor=cursor)

    async def all_priors(self) -> tuple[PriorView, ...]:
        """Return all meta-priors, page after page."""
        page = await self.priors(limit=MAX_PAGE)
        found = page.items
        while page.next_cursor is not None:
            page = await self.priors(limit=MAX_PAGE, cursor=page.next_cursor)
            found += page.items
        return found

    async def prior(self, prior_id: str) -> PriorView:
        """Return one meta-prior."""
        return await self._get(_path(prior_id), PriorView)

    async def promote_prior(self, prior_id: str) -> PriorView:
        """Make a prior the one that requests of its space get that name none; doing it twice does what once does."""
        return await self._post(f"{_path(prior_id)}/promote", PriorView)

    async def promotions(
        self, *, search_space: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> PromotionPage:
        """Return times that a prior was promoted, newest first; `cursor` is the `next_cursor` of the page before."""
        target = f"{PRIORS}/promotions"
        return await self._get(target, PromotionPage, search_space=search_space, limit=limit, cursor=cursor)

    async def compare_priors(self, comparison: Comparison, *, key: str | None = None) -> MetaRunView:
        """Ask for a meta-run that judges priors on the same held-out tasks; `key` as of `create_meta_run`."""
        fields = comparison.model_dump(mode="json", exclude_none=True)
        return await self._create(f"{PRIORS}/compare", MetaRunView, json=fields, key=key)

    async def import_prior(self, card: Path, tensors: Path, *, prior_id: str | None = None) -> PriorView:
        """Hand in a prior that was made elsewhere; the same prior again is no conflict, so this is retried.

        Args:
            card: Its `card.json`.
            tensors: Its `prior.safetensors`.
            prior_id: Name that it shall bear; that of its card if absent.
        """
        request = Request(
            method="POST",
            target=PRIORS,
            form={} if prior_id is None else {"id": prior_id},
            files={
                "card": FormFile(card, "application/json"),
                "tensors": FormFile(tensors, "application/octet-stream"),
            },
            timeout_s=UPLOAD_TIMEOUT_S,
        )
        return await self._ask(request, PriorView)

    async def download_prior(self, prior_id: str, file: ArtifactView, folder: Path) -> Path:
        """Write one file of a prior into `folder` under its own name, hash checked, whole or not at all.

        Raises:
            BadDownloadError: The bytes do not match the hash, or the name is no plain file name.
        """
        return await self._download(f"{_path(prior_id)}/files", file, folder)

    async def delete_prior(self, prior_id: str) -> None:
        """Delete a prior that nothing uses; its name is not given again. Never retried: a second try finds none."""
        await self._delete(_path(prior_id))


def _path(prior_id: str) -> str:
    return f"{PRIORS}/{quoted(prior_id)}"
