"""The typed client of the service's HTTP API, for programs that wait for each answer. Free of torch."""

import functools
import time
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from service.client.blocking import BlockingTransport, iterate, run
from service.client.calls import key_of_environment
from service.client.connection import Connection
from service.client.retries import RetryPolicy
from service.client.service_calls import ServiceCalls
from service.client.transport import Work

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def blocking(
    method: Callable[Concatenate[ServiceCalls, Parameters], Work[Result]],
) -> Callable[Concatenate["Client", Parameters], Result]:
    """Return a method of `Client` that does what a coroutine of `ServiceCalls` does, and returns once it is done."""

    @functools.wraps(method)
    def call(client: "Client", /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return run(method(client._calls, *args, **kwargs))

    return call


def blocking_iterator(
    method: Callable[Concatenate[ServiceCalls, Parameters], AsyncGenerator[Result, None]],
) -> Callable[Concatenate["Client", Parameters], Generator[Result, None, None]]:
    """Return a method of `Client` that yields what an asynchronous generator of `ServiceCalls` yields."""

    @functools.wraps(method)
    def call(client: "Client", /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Generator[Result, None, None]:
        return iterate(method(client._calls, *args, **kwargs))

    return call


class Client:
    """A connection to one ArchPrior service; a context manager. `AsyncClient` is the same for event loops.

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

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(
            base_url,
            transport=BlockingTransport(sleep),
            api_key=api_key or key_of_environment(),
            timeout_s=timeout_s,
            retries=retries or RetryPolicy(),
        )
        self._calls = ServiceCalls(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        run(self._connection.transport.close())

    @property
    def base_url(self) -> str:
        """Root of the service."""
        return self._connection.base_url

    health = blocking(ServiceCalls.health)
    ready = blocking(ServiceCalls.ready)
    gc = blocking(ServiceCalls.gc)

    overview = blocking(ServiceCalls.overview)
    adaptation_log = blocking(ServiceCalls.adaptation_log)
    adaptation_actors = blocking(ServiceCalls.adaptation_actors)
    meta_run_log = blocking(ServiceCalls.meta_run_log)
    meta_run_actors = blocking(ServiceCalls.meta_run_actors)

    create_dataset = blocking(ServiceCalls.create_dataset)
    begin_dataset = blocking(ServiceCalls.begin_dataset)
    dataset_parts = blocking(ServiceCalls.dataset_parts)
    complete_dataset = blocking(ServiceCalls.complete_dataset)
    copy_dataset = blocking(ServiceCalls.copy_dataset)
    wait_dataset = blocking(ServiceCalls.wait_dataset)
    dataset = blocking(ServiceCalls.dataset)
    datasets = blocking(ServiceCalls.datasets)
    dataset_events = blocking(ServiceCalls.dataset_events)
    thumbnails = blocking(ServiceCalls.thumbnails)
    change_dataset = blocking(ServiceCalls.change_dataset)
    delete_dataset = blocking(ServiceCalls.delete_dataset)

    begin_upload = blocking(ServiceCalls.begin_upload)
    upload_dataset = blocking(ServiceCalls.upload_dataset)

    create_adaptation = blocking(ServiceCalls.create_adaptation)
    adaptation = blocking(ServiceCalls.adaptation)
    adaptations = blocking(ServiceCalls.adaptations)
    cancel = blocking(ServiceCalls.cancel)
    wait = blocking(ServiceCalls.wait)
    adaptation_events = blocking(ServiceCalls.adaptation_events)
    follow = blocking_iterator(ServiceCalls.follow)
    artifacts = blocking(ServiceCalls.artifacts)
    download = blocking(ServiceCalls.download)
    search_spaces = blocking(ServiceCalls.search_spaces)
    search_space = blocking(ServiceCalls.search_space)

    create_meta_run = blocking(ServiceCalls.create_meta_run)
    meta_run = blocking(ServiceCalls.meta_run)
    meta_runs = blocking(ServiceCalls.meta_runs)
    events = blocking(ServiceCalls.events)
    stop_meta_run = blocking(ServiceCalls.stop_meta_run)
    resume_meta_run = blocking(ServiceCalls.resume_meta_run)
    cancel_meta_run = blocking(ServiceCalls.cancel_meta_run)
    wait_meta_run = blocking(ServiceCalls.wait_meta_run)
    meta_run_artifacts = blocking(ServiceCalls.meta_run_artifacts)
    download_meta_run = blocking(ServiceCalls.download_meta_run)

    priors = blocking(ServiceCalls.priors)
    all_priors = blocking(ServiceCalls.all_priors)
    prior = blocking(ServiceCalls.prior)
    promote_prior = blocking(ServiceCalls.promote_prior)
    promotions = blocking(ServiceCalls.promotions)
    compare_priors = blocking(ServiceCalls.compare_priors)
    import_prior = blocking(ServiceCalls.import_prior)
    download_prior = blocking(ServiceCalls.download_prior)
    delete_prior = blocking(ServiceCalls.delete_prior)

    create_webhook = blocking(ServiceCalls.create_webhook)
    webhook = blocking(ServiceCalls.webhook)
    webhooks = blocking(ServiceCalls.webhooks)
    test_webhook = blocking(ServiceCalls.test_webhook)
    webhook_deliveries = blocking(ServiceCalls.webhook_deliveries)
    delete_webhook = blocking(ServiceCalls.delete_webhook)
