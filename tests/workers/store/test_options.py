"""How to speak with an S3 server: what the environment says, and what reaches the server of it."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import StoreError
from workers.store.multipart import PART_BYTES
from workers.store.open import open_store
from workers.store.options import S3Options, Waits, s3_options
from workers.store.patient import open_patiently

KEY_ID = "arn:aws:kms:us-east-1:123456789012:key/0e9f1c2d"


def test_an_environment_that_says_nothing_gives_the_defaults() -> None:
    assert s3_options({}) == s3_options({"ARCHPRIOR_S3_SSE": "", "ARCHPRIOR_S3_MAX_ATTEMPTS": ""}) == S3Options()


def test_every_option_is_read() -> None:
    options = S3Options(
        public_endpoint_url="https://objects.example",
        addressing_style="virtual",
        sse="aws:kms",
        sse_kms_key_id=KEY_ID,
        max_attempts=2,
    )
    environment = {
        "ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL": "https://objects.example",
        "ARCHPRIOR_S3_ADDRESSING_STYLE": "virtual",
        "ARCHPRIOR_S3_SSE": "aws:kms",
        "ARCHPRIOR_S3_SSE_KMS_KEY_ID": KEY_ID,
        "ARCHPRIOR_S3_MAX_ATTEMPTS": "2",
    }
    assert s3_options(environment) == options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADDRESSING_STYLE", "host"),
        ("SSE", "aes256"),
        ("SSE", "SSE-C"),
        ("SSE_KMS_KEY_ID", KEY_ID),
        ("MAX_ATTEMPTS", "0"),
        ("MAX_ATTEMPTS", "many"),
        ("PUBLIC_ENDPOINT_URL", "objects.example"),
        ("PUBLIC_ENDPOINT_URL", "ftp://objects.example"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_variable(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ARCHPRIOR_S3_{name}", value)

    with pytest.raises(InvalidOptionError, match=f"the option {name.lower()} of S3") as caught:
        open_store("s3://bucket", create=True)
    assert f"ARCHPRIOR_S3_{name}" in caught.value.todo
    assert caught.value.expected


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"SSE": "AES256"}, {"ServerSideEncryption": "AES256"}),
        ({"SSE": "aws:kms"}, {"ServerSideEncryption": "aws:kms"}),
        (
            {"SSE": "aws:kms", "SSE_KMS_KEY_ID": KEY_ID},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY_ID},
        ),
    ],
)
def test_every_way_to_write_asks_for_encryption(
    moto_path_environment: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
    told: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"ARCHPRIOR_S3_{name}", value)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    store = open_store(f"s3://{bucket}", create=True)
    for name, num_bytes in (("small", 10), ("large", PART_BYTES + 1)):
        (tmp_path / name).write_bytes(bytes(num_bytes))
        store.put_file(name, tmp_path / name)
    store.put_bytes("bytes", b"1")
    upload = store.begin_upload("parts", num_bytes=3).id
    store.put_part("parts", upload, 1, b"abc")
    store.complete_upload("parts", upload, num_bytes=3)
    store.copy("bytes", "copy")

    client = boto3.client("s3", endpoint_url=moto_path_environment)
    for entry in store.list(""):
        head = client.head_object(Bucket=bucket, Key=entry.key)
        assert {name: head.get(name) for name in told} == told, entry.key
    assert len(list(store.list(""))) == 5


def test_a_failing_request_is_made_as_often_as_allowed(s3_server, monkeypatch: pytest.MonkeyPatch) -> None:
    delays = []
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: delays.append(1) or 0
    )
    monkeypatch.setenv("ARCHPRIOR_S3_MAX_ATTEMPTS", "3")
    store = open_store("s3://bucket", create=True)
    s3_server.kill()

    with pytest.raises(StoreError, match="endpoint is right"):
        store.get_bytes("object")
    assert len(delays) == 2


def test_what_is_prompt_fails_by_one_short_try_where_a_server_says_nothing(
    s3_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.store.options.PROMPT_READ_TIMEOUT_S", 0.2)
    open_store("s3://bucket", create=True)
    store = open_patiently("s3://bucket", patience_s=60.0)
    store.prompt.put_bytes("progress.json", b"{}")
    s3_server.hang()

    began_s = time.monotonic()
    with pytest.raises(StoreError, match=r"[Rr]ead timeout"):
        store.prompt.put_bytes("progress.json", b"{}")
    assert time.monotonic() - began_s < 5.0  # the other way takes minutes


def test_who_serves_requests_waits_briefly_for_what_is_answered_at_once(
    s3_server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waits = Waits(max_attempts=2, connect_timeout_s=0.2, read_timeout_s=0.2)
    monkeypatch.setattr("workers.store.options.SERVING", waits)
    store = open_store("s3://bucket", create=True, serving=True)
    store.put_bytes("object", b"1")
    upload = store.begin_upload("large", num_bytes=3).id
    s3_server.hang()

    began_s = time.monotonic()
    for ask in (
        lambda: store.size("object"),
        lambda: store.get_bytes("object"),
        lambda: store.read("object"),
        lambda: store.put_bytes("object", b"2"),
        lambda: list(store.list("")),
        lambda: store.delete("object"),
        lambda: store.begin_upload("other", num_bytes=3),
        lambda: store.put_part("large", upload, 1, b"abc"),
        lambda: store.parts("large", upload),
    ):
        with pytest.raises(StoreError, match=r"[Rr]ead timeout"):
            ask()
    assert time.monotonic() - began_s < 60.0  # the other way takes five minutes for each


def test_who_serves_requests_waits_half_a_minute_at_most_and_as_long_as_ever_for_long_work() -> None:
    options = S3Options().serving()
    waits = options.at_once
    # Botocore pauses for up to 1 s after the first try, 2 s after the second, 4 s after the third.
    pauses_s = 2 ** (waits.max_attempts - 1) - 1
    assert waits.max_attempts * waits.read_timeout_s + pauses_s <= 30.0
    assert waits.max_attempts * waits.connect_timeout_s + pauses_s <= 30.0
    assert options.waits == S3Options().waits
    assert S3Options(max_attempts=1).serving().at_once.max_attempts == 1


def test_a_file_that_a_server_takes_its_time_over_goes_up_though_answers_are_due_at_once(
    s3_server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "workers.store.options.SERVING", Waits(max_attempts=1, connect_timeout_s=0.3, read_timeout_s=0.3)
    )
    store = open_store("s3://bucket", create=True, serving=True)
    (tmp_path / "file").write_bytes(b"bytes")
    s3_server.hang()
    with pytest.raises(StoreError, match=r"[Rr]ead timeout"):
        store.size("file")

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(store.put_file, "file", tmp_path / "file")
        with pytest.raises(TimeoutError):
            sent.result(timeout=1.0)
        s3_server.go_on()
        sent.result(timeout=30.0)
    assert store.get_bytes("file") == b"bytes"
