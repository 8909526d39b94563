"""Real data for adaptations: scikit-learn's digits in a folder store, and an attempt's request beside it."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from workers.contracts.adaptations import AdaptationRequest, AttemptRequest
from workers.store import layout
from workers.store.folder import FolderStore
from workers.tasks.archive import check_archive
from workers.tasks.limits import ArchiveLimits

MakeAttempt = Callable[..., str]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four digits, 60 images each."""
    return write_digits(tmp_path_factory.mktemp("digits") / "digits.zip", side=8)


@pytest.fixture(scope="session")
def large_digits_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at 32 pixels."""
    return write_digits(tmp_path_factory.mktemp("digits") / "large_digits.zip", side=32)


def write_digits(path: Path, *, side: int) -> Path:
    digits = load_digits()
    with zipfile.ZipFile(path, "w") as archive:
        for label in range(4):
            for number, pixels in enumerate(digits.images[digits.target == label][:60]):
                png = io.BytesIO()
                Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((side, side)).save(png, "PNG")
                archive.writestr(f"{label}/{number}.png", png.getvalue())
    return path


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects", create=True)


@pytest.fixture
def make_attempt(store: FolderStore, digits_zip: Path) -> MakeAttempt:
    """Put the dataset and a request into the store; return the attempt's key."""

    def make(number: int = 1, spent_s: float = 0.0, archive: Path = digits_zip, **options: object) -> str:
        data = archive.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        store.put_bytes(layout.dataset_archive(sha256), data)
        report = check_archive(archive, ArchiveLimits()).report
        store.put_bytes(layout.dataset_report(sha256), report.model_dump_json().encode())
        # Without a prior only a search in the supernet searches.
        search = "adapt" if "prior" in options else "supernet"
        defaults = {"prior": "none", "search": search, "budget_s": 12.0, "num_workers": 0}
        attempt = AttemptRequest(
            adaptation_id="a1",
            attempt=number,
            request=AdaptationRequest.model_validate({**defaults, **options}),
            dataset_key=layout.dataset_archive(sha256),
            dataset_sha256=sha256,
            spent_s=spent_s,
        )
        key = layout.attempt("a1", number)
        store.put_bytes(f"{key}/request.json", attempt.model_dump_json().encode())
        return key

    return make
