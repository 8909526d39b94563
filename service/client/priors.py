"""Calls on `/v1/priors`."""

from functools import partial
from pathlib import Path

from service.client.connection import UPLOAD_TIMEOUT_S, Connection, parsed, quoted
from service.schemas import ArtifactView, Comparison, MetaRunView, PriorPage, PriorView, PromotionView

PRIORS = "/v1/priors"
MAX_PAGE = 100


class PriorCalls(Connection):
    """Meta-priors of a service."""

    def priors(
        self, *, search_space: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> PriorPage:
        """Return meta-priors, the bundled ones first; `cursor` is the `next_cursor` of the page before."""
        return self._get(PRIORS, PriorPage, search_space=search_space, limit=limit, cursor=cursor)

    def all_priors(self) -> tuple[PriorView, ...]:
        """Return all meta-priors, page after page."""
        page = self.priors(limit=MAX_PAGE)
        found = page.items
        while page.next_cursor is not None:
            page = self.priors(limit=MAX_PAGE, cursor=page.next_cursor)
            found += page.items
        return found

    def prior(self, prior_id: str) -> PriorView:
        """Return one meta-prior."""
        return self._get(_path(prior_id), PriorView)

    def promote_prior(self, prior_id: str) -> PriorView:
        """Make a prior the one that requests of its space get that name none; doing it twice does what once does."""
        return self._post(f"{_path(prior_id)}/promote", PriorView)

    def promotions(self, *, search_space: str | None = None) -> tuple[PromotionView, ...]:
        """Return each time that a prior was promoted, of one space or of all."""
        return self._get(f"{PRIORS}/promotions", tuple[PromotionView, ...], search_space=search_space)

    def compare_priors(self, comparison: Comparison, *, key: str | None = None) -> MetaRunView:
        """Ask for a meta-run that judges priors on the same held-out tasks; `key` as of `create_meta_run`."""
        fields = comparison.model_dump(mode="json", exclude_none=True)
        return self._create(f"{PRIORS}/compare", MetaRunView, json=fields, key=key)

    def import_prior(self, card: Path, tensors: Path, *, prior_id: str | None = None) -> PriorView:
        """Hand in a prior that was made elsewhere; the same prior again is no conflict, so this is retried.

        Args:
            card: Its `card.json`.
            tensors: Its `prior.safetensors`.
            prior_id: Name that it shall bear; that of its card if absent.
        """
        with card.open("rb") as card_file, tensors.open("rb") as tensors_file:
            return self._transport.call(
                "POST",
                PRIORS,
                partial(parsed, schema=PriorView),
                form={} if prior_id is None else {"id": prior_id},
                files={
                    "card": (card.name, card_file, "application/json"),
                    "tensors": (tensors.name, tensors_file, "application/octet-stream"),
                },
                timeout_s=UPLOAD_TIMEOUT_S,
            )

    def download_prior(self, prior_id: str, file: ArtifactView, folder: Path) -> Path:
        """Write one file of a prior into `folder` under its own name, hash checked, whole or not at all.

        Raises:
            BadDownloadError: The bytes do not match the hash, or the name is no plain file name.
        """
        return self._download(f"{_path(prior_id)}/files", file, folder)

    def delete_prior(self, prior_id: str) -> None:
        """Delete a prior that nothing uses; its name is not given again. Never retried: a second try finds none."""
        self._transport.call("DELETE", _path(prior_id), lambda _: None, idempotent=False)


def _path(prior_id: str) -> str:
    return f"{PRIORS}/{quoted(prior_id)}"
