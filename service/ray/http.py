"""Questions to the REST interface of a Ray dashboard: timeouts, the token, bounded answers, and one kind of failure."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import httpx

from service.errors import ClusterUnavailableError

TIMEOUT_S: Final = 15.0
MAX_ANSWER_BYTES: Final = 32 << 20
"""Ray lists all jobs since its start, in one answer of about a kilobyte each."""


class RayHttp:
    """Connections to one dashboard. Every method raises `ClusterUnavailableError` where no answer comes.

    Args:
        url: Of the cluster's dashboard, such as `http://127.0.0.1:8265`.
        token: The cluster's token, if it asks for one.
    """

    def __init__(self, url: str, *, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # A cluster's own addresses are never behind the proxy that the environment may name.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> httpx.Response:
        """Return an answer, whatever its status."""
        with _answered():
            return self._http.request(method, path, json=json, params=params, timeout=timeout_s)

    def bounded(self, path: str, *, params: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> bytes:
        """Return a successful answer's body of at most `MAX_ANSWER_BYTES`."""
        data = bytearray()
        for chunk in self._chunks(path, params, timeout_s):
            data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise ClusterUnavailableError(
                    "Ray's answer is too large", got=path, expected=f"at most {MAX_ANSWER_BYTES} bytes"
                )
        return bytes(data)

    def tail(self, path: str, *, params: Mapping[str, str], num_bytes: int) -> bytes:
        """Return the last bytes of a successful answer's body; no more than those are held."""
        data = bytearray()
        for chunk in self._chunks(path, params, TIMEOUT_S):
            data += chunk
            del data[:-num_bytes]
        return bytes(data)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _chunks(self, path: str, params: Mapping[str, str] | None, timeout_s: float) -> Iterator[bytes]:
        with _answered(), self._http.stream("GET", path, params=params, timeout=timeout_s) as response:
            if not response.is_success:
                response.read()
            checked(response)
            yield from response.iter_bytes()


def checked(response: httpx.Response) -> httpx.Response:
    """Return an answer that is a success.

    Raises:
        ClusterUnavailableError: It is none.
    """
    if response.is_success:
        return response
    if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise ClusterUnavailableError(
            "Ray refuses the token", todo="Set RAY_AUTH_TOKEN to the token that the cluster was started with."
        )
    raise ClusterUnavailableError(f"Ray answered with status {response.status_code}", got=response.text[:500])


@contextmanager
def _answered() -> Iterator[None]:
    """Raise `ClusterUnavailableError` where no answer comes."""
    try:
        yield
    except (httpx.HTTPError, RuntimeError) as error:  # the latter of a client that another thread has closed
        raise ClusterUnavailableError("Ray does not answer", got=str(error) or type(error).__name__) from error
