"""A store of each kind, the S3 one on a real server."""

import uuid
from pathlib import Path

import pytest

from workers.store.open import open_store
from workers.store.patient import PatientStore
from workers.store.protocol import Store


@pytest.fixture(params=["folder", "s3", "s3_prefix", "patient"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store."""
    if request.param == "patient":
        return PatientStore(open_store((tmp_path / "store").as_uri(), create=True), patience_s=5.0)
    if request.param == "folder":
        return open_store((tmp_path / "store").as_uri(), create=True)
    request.getfixturevalue("s3_environment")
    suffix = "/teams/red" if request.param == "s3_prefix" else ""
    return open_store(f"s3://bucket-{uuid.uuid4().hex[:12]}{suffix}", create=True)
