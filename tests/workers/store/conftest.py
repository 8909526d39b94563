"""A store of each kind, those of S3 on real servers."""

import uuid
from pathlib import Path

import pytest

from workers.store.open import open_store
from workers.store.patient import PatientStore
from workers.store.protocol import Store

ENVIRONMENTS = {
    "rclone": "s3_environment",
    "rclone_prefix": "s3_environment",
    "moto_path": "moto_path_environment",
    "moto_virtual": "moto_virtual_environment",
}


@pytest.fixture(params=["folder", "patient", *ENVIRONMENTS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store."""
    return new_store(request.param, request, tmp_path)


@pytest.fixture(params=["folder", "patient", "rclone"])
def checked_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store that checks which upload a part is of; moto does not."""
    return new_store(request.param, request, tmp_path)


@pytest.fixture(params=ENVIRONMENTS)
def public_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store that people reach at `localhost`, and the service at another name of the same server."""
    endpoint = request.getfixturevalue(ENVIRONMENTS[request.param])
    public = endpoint.replace("127.0.0.1", "localhost").replace("objects.", "public.")
    monkeypatch.setenv("ARCHPRIOR_S3_PUBLIC_ENDPOINT_URL", public)
    return PatientStore(new_store(request.param, request, tmp_path), patience_s=5.0)


def new_store(kind: str, request: pytest.FixtureRequest, folder: Path) -> Store:
    if kind == "patient":
        return PatientStore(new_store("folder", request, folder), patience_s=5.0)
    if kind == "folder":
        return open_store((folder / "store").as_uri(), create=True)
    request.getfixturevalue(ENVIRONMENTS[kind])
    suffix = "/teams/red" if kind.endswith("prefix") else ""
    return open_store(f"s3://bucket-{uuid.uuid4().hex[:12]}{suffix}", create=True)
