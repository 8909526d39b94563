"""Where jobs run: a Ray that the service owns, or one that somebody else runs."""

from typing import Protocol

from search_spaces.errors import InvalidOptionError
from service.ray.jobs import Capacity, JobClient, RayJobs
from service.ray.local import LocalRay
from service.ray.observer import Observer
from service.settings import Settings


class Cluster(Protocol):
    """A Ray cluster, as the service sees it."""

    @property
    def dashboard_url(self) -> str | None:
        """The dashboard's address, or None while there is none."""
        ...

    def connect(self) -> JobClient:
        """Return the cluster's jobs, starting the cluster where that is ours to do and it does not run.

        Raises:
            ClusterUnavailableError: It could not be started.
        """
        ...

    def capacity(self) -> Capacity:
        """Return the CPUs and GPUs that there are now. Raises `ClusterUnavailableError`."""
        ...

    def observer(self) -> Observer:
        """Return who looks at the cluster as it is; starts nothing. Raises `ClusterUnavailableError`: none runs."""
        ...

    def check(self) -> None:
        """Raises `ClusterUnavailableError` unless the cluster is up and well. Starts nothing."""
        ...

    def close(self) -> None:
        """Let go of the cluster, and end it if it is ours. May be called while another thread is in `connect`."""
        ...


class RemoteRay:
    """A cluster that somebody else runs.

    Args:
        url: Of its dashboard, as the service reaches it.
        token: Of the cluster, if it asks for one.
        dashboard_url: Of its dashboard, as people reach it; None: as the service does.
    """

    def __init__(self, url: str, *, token: str | None, dashboard_url: str | None = None) -> None:
        self.dashboard_url: str | None = (dashboard_url or url).rstrip("/")
        self._jobs = RayJobs(url, token=token)

    def connect(self) -> JobClient:
        return self._jobs

    def capacity(self) -> Capacity:
        return self._jobs.capacity()

    def observer(self) -> Observer:
        return self._jobs.observer

    def check(self) -> None:
        self._jobs.check()

    def close(self) -> None:
        self._jobs.close()


def open_cluster(settings: Settings) -> Cluster:
    """Return the cluster that the settings name; nothing is started yet."""
    if settings.ray_address is None:
        return LocalRay(settings.data_dir, num_cpus=settings.ray_num_cpus)
    return RemoteRay(settings.ray_address, token=_token(settings), dashboard_url=settings.dashboard_url)


def _token(settings: Settings) -> str | None:
    if settings.ray_token is not None:
        return settings.ray_token.get_secret_value()
    if settings.ray_token_path is None:
        return None
    try:
        return settings.ray_token_path.read_text().strip()
    except OSError as error:
        raise InvalidOptionError(
            "the token of the Ray cluster cannot be read",
            got=str(error),
            todo="RAY_AUTH_TOKEN_PATH names the file with the token that the cluster was started with.",
        ) from error
