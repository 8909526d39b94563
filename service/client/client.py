"""The typed client of the service's HTTP API. Free of torch."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from search_spaces.errors import InvalidOptionError
from service.client.downloads import save
from service.client.errors import BadDownloadError, ServiceError
from service.client.retries import RetryPolicy
from service.client.transport import Transport
from service.schemas import (
    FINAL_STATES,
    AdaptationPage,
    AdaptationState,
    AdaptationView,
    ArtifactView,
    DatasetPage,
    DatasetView,
    Health,
    Problem,
    SpaceView,
)
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.priors import PriorCard
from workers.tasks.limits import ArchiveLimits

Schema = TypeVar("Schema")

UPLOAD_TIMEOUT_S = ArchiveLimits().timeout_s + 300.0
"""The service answers an upload only once it has checked every image of it, which may have to wait for its turn."""


class Client:
    """A connection to one ArchPrior service; a context manager.

    Calls that may safely be made twice are retried (broken connections, 429, 502, 503, 504; bounded, with growing
    delays, as long as a `Retry-After` asks). Creating an adaptation is tried once.

    Args:
        base_url: Root of the service, such as `http://127.0.0.1:8000`.
        timeout_s: Longest silence of the service within one try, in seconds.
        retries: How often, and with which delays.
        sleep: Waits the given number of seconds.

    Every method raises `ServiceError` where the service refuses and `ServiceUnreachableError` where no answer comes.

    Raises:
        InvalidOptionError: `base_url` is no HTTP address.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 30.0,
        retries: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._transport = Transport(base_url, timeout_s=timeout_s, retries=retries or RetryPolicy(), sleep=sleep)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def base_url(self) -> str:
        """Root of the service."""
        return self._transport.base_url

    def health(self) -> Health:
        """Return whether the service answers at all."""
        return self._get("/healthz", Health)

    def ready(self) -> Health:
        """Return whether the service can take work; where it cannot, `parts` says why. Asked once, without retries."""
        read = partial(_parsed, schema=Health)
        return self._transport.call("GET", "/readyz", read, idempotent=False, accepted=frozenset({503}))

    def create_dataset(self, archive: Path, *, name: str | None = None) -> DatasetView:
        """Upload a zip of class folders in constant memory; return what the check found.

        The same bytes are stored once, so this call is retried like a read.
        """
        with archive.open("rb") as file:
            return self._transport.call(
                "POST",
                "/v1/datasets",
                partial(_parsed, schema=DatasetView),
                form={} if name is None else {"name": name},
                files={"dataset": (archive.name, file, "application/zip")},
                timeout_s=UPLOAD_TIMEOUT_S,
            )

    def dataset(self, dataset_id: str) -> DatasetView:
        """Return one dataset."""
        return self._get(f"/v1/datasets/{_quoted(dataset_id)}", DatasetView)

    def datasets(self, *, limit: int | None = None, cursor: str | None = None) -> DatasetPage:
        """Return datasets, newest first; `cursor` is the `next_cursor` of the page before."""
        return self._get("/v1/datasets", DatasetPage, limit=limit, cursor=cursor)

    def create_adaptation(self, request: AdaptationRequest, *, archive: Path | None = None) -> AdaptationView:
        """Ask for an adaptation to the dataset that `request` names, or to a zip sent along. Never retried.

        Raises:
            InvalidOptionError: Both or neither of `request.dataset_id` and `archive` are given.
        """
        if (archive is None) == (request.dataset_id is None):
            raise InvalidOptionError("an adaptation needs one dataset", expected="either a dataset id or an archive")
        fields = request.model_dump(mode="json", exclude_none=True)
        read = partial(_parsed, schema=AdaptationView)
        if archive is None:
            return self._transport.call("POST", "/v1/adaptations", read, idempotent=False, json=fields)
        with archive.open("rb") as file:
            return self._transport.call(
                "POST",
                "/v1/adaptations",
                read,
                idempotent=False,
                form={field: str(value) for field, value in fields.items()},
                files={"dataset": (archive.name, file, "application/zip")},
                timeout_s=UPLOAD_TIMEOUT_S,
            )

    def adaptation(self, adaptation_id: str) -> AdaptationView:
        """Return one adaptation as it stands now."""
        return self._get(f"/v1/adaptations/{_quoted(adaptation_id)}", AdaptationView)

    def adaptations(
        self, *, state: AdaptationState | None = None, limit: int | None = None, cursor: str | None = None
    ) -> AdaptationPage:
        """Return adaptations, newest first; `cursor` is the `next_cursor` of the page before."""
        return self._get("/v1/adaptations", AdaptationPage, state=state, limit=limit, cursor=cursor)

    def cancel(self, adaptation_id: str) -> AdaptationView:
        """Ask an adaptation to stop; return it as it stands then. Asking twice does what asking once does."""
        path = f"/v1/adaptations/{_quoted(adaptation_id)}/cancel"
        return self._transport.call("POST", path, partial(_parsed, schema=AdaptationView))

    def wait(
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
            view = self.adaptation(adaptation_id)
            if on_progress is not None:
                on_progress(view)
            if view.state in FINAL_STATES:
                return view
            self._sleep(poll_s)

    def artifacts(self, adaptation_id: str) -> tuple[ArtifactView, ...]:
        """Return the list of a finished adaptation's files."""
        return self._get(f"/v1/adaptations/{_quoted(adaptation_id)}/artifacts", tuple[ArtifactView, ...])

    def download(self, adaptation_id: str, artifact: ArtifactView, folder: Path) -> Path:
        """Write one artifact into `folder` under its own name, hash checked, whole or not at all; return its path.

        Raises:
            BadDownloadError: The bytes do not match the hash, or the name is no plain file name.
        """
        if artifact.name in ("", ".", "..") or not set(artifact.name).isdisjoint("/\\\0"):
            raise BadDownloadError("not a plain file name", got=artifact.name)
        path = folder / artifact.name
        self._transport.call(
            "GET",
            f"/v1/adaptations/{_quoted(adaptation_id)}/artifacts/{_quoted(artifact.name)}",
            partial(save, path=path, sha256=artifact.sha256),
        )
        return path

    def priors(self) -> tuple[PriorCard, ...]:
        """Return the cards of the meta-priors that the service knows."""
        return self._get("/v1/priors", tuple[PriorCard, ...])

    def prior(self, prior_id: str) -> PriorCard:
        """Return the card of one meta-prior."""
        return self._get(f"/v1/priors/{_quoted(prior_id)}", PriorCard)

    def search_spaces(self) -> tuple[SpaceView, ...]:
        """Return the search spaces that the service knows."""
        return self._get("/v1/search-spaces", tuple[SpaceView, ...])

    def search_space(self, name: str) -> SpaceView:
        """Return one search space."""
        return self._get(f"/v1/search-spaces/{_quoted(name)}", SpaceView)

    def _get(self, path: str, schema: type[Schema], **query: str | int | None) -> Schema:
        present = {name: value for name, value in query.items() if value is not None}
        return self._transport.call("GET", path, partial(_parsed, schema=schema), query=present)


def _parsed(response: httpx.Response, schema: type[Schema]) -> Schema:
    body = response.read()
    try:
        return TypeAdapter(schema).validate_json(body)
    except ValidationError as error:
        findings = tuple(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors()[:5])
        raise ServiceError(
            Problem(
                title="the service's answer cannot be read",
                status=response.status_code,
                detail=f"{response.request.method} {response.request.url.path}",
                code="bad_answer",
                todo="Client and service may be of different versions, or this is another service's address.",
                errors=findings,
            )
        ) from error


def _quoted(part: str) -> str:
    return quote(part, safe="")
