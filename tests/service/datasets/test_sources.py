import time
import uuid

import boto3
import pytest

from service.datasets.sources import Sources
from service.errors import ForbiddenError, InvalidRequestError
from workers.contracts.errors import StoreError
from workers.store.open import open_store
from workers.store.options import Waits

PREFIXES = ("s3://shared/team/", "s3://open/")


@pytest.mark.parametrize("source", ["s3://shared/team/pets.zip", "s3://shared/team/a/b c.zip", "s3://open/x.zip"])
def test_what_lies_below_a_prefix_may_be_copied(source):
    bucket, key = Sources(prefixes=PREFIXES)._place(source)
    assert f"s3://{bucket}/{key}" == source


@pytest.mark.parametrize(
    "source",
    [
        "s3://shared/pets.zip",
        "s3://shared/team2/pets.zip",
        "s3://shared/Team/pets.zip",
        "s3://shared2/team/pets.zip",
        "s3://shared.team/pets.zip",
        "s3://opens/x.zip",
    ],
)
def test_what_only_looks_as_if_it_lay_there_may_not(source):
    with pytest.raises(ForbiddenError, match="may not copy"):
        Sources(prefixes=PREFIXES).size(source)
    with pytest.raises(ForbiddenError, match="no prefix is allowed"):
        Sources(prefixes=()).read(source)


@pytest.mark.parametrize(
    "source",
    [
        "s3://shared/team/../secret.zip",
        "s3://shared/team/./pets.zip",
        "s3://shared/team//pets.zip",
        "s3://shared/team/",
        "s3://shared",
        "s3://shared/team/pets.zip?versionId=1",
        "s3://shared/team/pets.zip#x",
        "s3://shared/team/%2e%2e/secret.zip",
        "s3://shared/team\\..\\secret.zip",
        "s3://shared/team/a\nb.zip",
        "s3://key:secret@shared/team/pets.zip",
        "https://shared/team/pets.zip",
        "S3://shared/team/pets.zip",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_plain_address_is_refused(source):
    with pytest.raises(InvalidRequestError, match="not the address of an object"):
        Sources(prefixes=PREFIXES).size(source)


def test_a_source_is_copied_once_and_pinned(s3_environment, new_service, sender_to, tmp_path, small_zip):
    bucket = f"source-{uuid.uuid4().hex[:12]}"
    s3 = boto3.client("s3", endpoint_url=s3_environment)
    s3.create_bucket(Bucket=bucket)
    for key, data in (("team/pets.zip", small_zip), ("team/none.zip", b"no zip"), ("secret.zip", small_zip)):
        s3.put_object(Bucket=bucket, Key=key, Body=data)
    with new_service(tmp_path / "data", source_prefixes=(f"s3://{bucket}/team/",)) as service:
        sender = sender_to(service)

        def post(key, **fields):
            headers = {"Idempotency-Key": key}
            return service.client.post(
                "/v1/datasets", json={"source": f"s3://{bucket}/{key}", **fields}, headers=headers
            )

        first, again = (post("team/pets.zip", meta_use=True) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]
        view = sender.settled(first.json()["id"])
        assert (view["state"], view["name"], view["meta_use"]) == ("READY", "pets", True)
        assert view["source"] == f"s3://{bucket}/team/pets.zip"
        # What becomes of the source later changes nothing here.
        s3.delete_object(Bucket=bucket, Key="team/pets.zip")
        service.adapt(dataset_id=view["id"], prior="none")
        assert sender.settled(post("team/none.zip").json()["id"])["state"] == "REJECTED"
        assert post("secret.zip").json()["code"] == "forbidden"
        missing = post("team/missing.zip")
        assert (missing.status_code, missing.json()["code"]) == (422, "invalid_request")


def test_who_asks_to_copy_waits_briefly_for_a_server_that_says_nothing(s3_server, monkeypatch):
    monkeypatch.setattr(
        "workers.store.options.SERVING", Waits(max_attempts=1, connect_timeout_s=0.2, read_timeout_s=0.2)
    )
    monkeypatch.setenv("ARCHPRIOR_S3_MAX_ATTEMPTS", "1")
    open_store("s3://open", create=True)
    s3_server.hang()
    began_s = time.monotonic()
    with pytest.raises(StoreError, match=r"[Rr]ead timeout"):
        Sources(prefixes=PREFIXES).size("s3://open/x.zip")
    assert time.monotonic() - began_s < 20.0  # the other way takes a minute


def test_nothing_is_copied_where_the_operator_has_allowed_nothing(shared_service):
    answer = shared_service.client.post("/v1/datasets", json={"source": "s3://bucket/pets.zip"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "ARCHPRIOR_SOURCE_PREFIXES" in answer.json()["todo"]
