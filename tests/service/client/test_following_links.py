"""Downloads that the service sends to a store: followed, with nothing of ours but the request."""

import hashlib

import pytest

from service.client import ServiceError
from service.schemas import ArtifactView

DATA = bytes(range(256)) * 1000
FILE = ArtifactView(
    name="weights.safetensors",
    num_bytes=len(DATA),
    sha256=hashlib.sha256(DATA).hexdigest(),
    media_type="application/octet-stream",
    href="/v1/adaptations/ad1/artifacts/weights.safetensors",
)


@pytest.fixture
def with_credentials(connect, server, waits):
    """A client that authorizes itself with every call to the service."""
    with connect(server.url, api_key="ap-1234", sleep=waits.append) as client:
        yield client


@pytest.fixture
def sent_away(server, answer):
    return answer(status=307, headers={"Location": f"{server.url}/bucket/key?X-Amz-Signature=0123"})


def test_the_store_gets_no_credentials_of_the_service(with_credentials, server, answer, sent_away, tmp_path):
    server.answer(sent_away, answer(body=DATA))
    assert with_credentials.download("ad1", FILE, tmp_path).read_bytes() == DATA
    asked, followed = server.requests
    assert asked.headers["Authorization"] == "Bearer ap-1234"
    assert followed.path == "/bucket/key?X-Amz-Signature=0123"
    assert "Authorization" not in followed.headers
    assert followed.headers["Accept-Encoding"] == "identity"


def test_after_a_failure_of_the_store_the_service_is_asked_for_another_link(
    client, server, answer, sent_away, waits, tmp_path
):
    failures = (answer(status=503), answer(status=500), answer(body=DATA, cut=10))
    server.answer(*(one for failure in failures for one in (sent_away, failure)), sent_away, answer(body=DATA))
    assert client.download("ad1", FILE, tmp_path).read_bytes() == DATA
    assert [request.path.startswith("/bucket/") for request in server.requests] == [False, True] * 4
    assert len(waits) == 3


def test_a_store_that_refuses_is_told(client, server, answer, sent_away, tmp_path):
    server.answer(sent_away, answer(status=403, body=b"<Error><Code>AccessDenied</Code></Error>"))
    with pytest.raises(ServiceError, match="AccessDenied") as caught:
        client.download("ad1", FILE, tmp_path)
    assert caught.value.problem.status == 403
    assert f"{server.url}, the store" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_link_of_a_store_is_followed_once(client, server, sent_away, tmp_path):
    server.answer(sent_away)
    with pytest.raises(ServiceError):
        client.download("ad1", FILE, tmp_path)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "location", ["http://[::1/key?X-Amz-Signature=0123", "mailto:x", "ftp://host/key", "http://xn--/"]
)
def test_a_link_that_is_no_address_is_told_and_not_tried_again(client, server, answer, waits, tmp_path, location):
    server.answer(answer(status=307, headers={"Location": location}))
    with pytest.raises(ServiceError, match="no address") as caught:
        client.download("ad1", FILE, tmp_path)
    assert "ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL" in str(caught.value)
    assert "0123" not in str(caught.value)
    assert (len(server.requests), waits) == (1, [])


def test_a_redirect_that_leads_nowhere_is_told(client, server, answer, tmp_path):
    server.answer(answer(status=307))
    with pytest.raises(ServiceError, match="Temporary Redirect"):
        client.download("ad1", FILE, tmp_path)
    assert len(server.requests) == 1
