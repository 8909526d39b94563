"""The typed client of the service's HTTP API. Free of torch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from search_spaces.errors import InvalidOptionError
from service.client.connection import UPLOAD_TIMEOUT_S, parsed, quoted
from service.client.datasets import DatasetCalls
from service.client.meta_runs import MetaRunCalls
from service.client.priors import PriorCalls
from service.client.retries import idempotency_headers
from service.schemas import (
    FINAL_STATES,
    AdaptationPage,
    AdaptationState,
    AdaptationView,
    ArtifactView,
    Health,
    SpaceView,
)
from workers.contracts.adaptations import AdaptationRequest


class Client(DatasetCalls, MetaRunCalls, PriorCalls):
    """A connection to one ArchPrior service; a context manager.

    Calls that may safely be made twice are retried (broken connections, 429, 502, 503, 504; bounded, with growing
    delays, as long as a `Retry-After` asks). So are those that create something: each has a key by which the service
    knows it again. Whoever wants that over a restart of the own program, too, gives a key of its own.

    Args:
        base_url: Root of the service, such as `http://127.0.0.1:8000`.
        api_key: Of a service that asks for one; ARCHPRIOR_API_KEY if absent.
        timeout_s: Longest silence of the service within one try, in seconds.
        retries: How often, and with which delays.
        sleep: Waits the given number of seconds.

    Every method raises `ServiceError` where the service refuses and `ServiceUnreachableError` where no answer comes.

    Raises:
        InvalidOptionError: `base_url` is no HTTP address.
    """

    def health(self) -> Health:
        """Return whether the service answers at all."""
        return self._get("/healthz", Health)

    def ready(self) -> Health:
        """Return whether the service can take work; where it cannot, `parts` says why. Asked once, without retries."""
        read = partial(parsed, schema=Health)
        return self._transport.call("GET", "/readyz", read, idempotent=False, accepted=frozenset({503}))

    def create_adaptation(
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
            return self._create("/v1/adaptations", AdaptationView, json=fields, key=key)
        with archive.open("rb") as file:
            return self._transport.call(
                "POST",
                "/v1/adaptations",
                partial(parsed, schema=AdaptationView),
                headers=idempotency_headers(key),
                form={field: str(value) for field, value in fields.items()},
                files={"dataset": (archive.name, file, "application/zip")},
                timeout_s=UPLOAD_TIMEOUT_S,
            )

    def adaptation(self, adaptation_id: str) -> AdaptationView:
        """Return one adaptation as it stands now."""
        return self._get(f"/v1/adaptations/{quoted(adaptation_id)}", AdaptationView)

    def adaptations(
        self, *, state: AdaptationState | None = None, limit: int | None = None, cursor: str | None = None
    ) -> AdaptationPage:
        """Return adaptations, newest first; `cursor` is the `next_cursor` of the page before."""
        return self._get("/v1/adaptations", AdaptationPage, state=state, limit=limit, cursor=cursor)

    def cancel(self, adaptation_id: str) -> AdaptationView:
        """Ask an adaptation to stop; return it as it stands then. Asking twice does what asking once does."""
        return self._post(f"/v1/adaptations/{quoted(adaptation_id)}/cancel", AdaptationView)

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
        return self._get(f"/v1/adaptations/{quoted(adaptation_id)}/artifacts", tuple[ArtifactView, ...])

    def download(self, adaptation_id: str, artifact: ArtifactView, folder: Path) -> Path:
        """Write one artifact into `folder` under its own name, hash checked, whole or not at all; return its path.

        Raises:
            BadDownloadError: The bytes do not match the hash, or the name is no plain file name.
        """
        return self._download(f"/v1/adaptations/{quoted(adaptation_id)}/artifacts", artifact, folder)

    def search_spaces(self) -> tuple[SpaceView, ...]:
        """Return the search spaces that the service knows."""
        return self._get("/v1/search-spaces", tuple[SpaceView, ...])

    def search_space(self, name: str) -> SpaceView:
        """Return one search space."""
        return self._get(f"/v1/search-spaces/{quoted(name)}", SpaceView)
