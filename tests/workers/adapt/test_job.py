"""What a rank does with an error: what no retry mends is left as the attempt's failure."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from workers.adapt import job
from workers.contracts.errors import InvalidDatasetError, StoreError
from workers.store.folder import FolderStore


@pytest.mark.parametrize(("error", "is_final"), [(StoreError("away"), False), (InvalidDatasetError("bad"), True)])
def test_only_what_no_retry_mends_is_left_as_a_failure(
    error: Exception, is_final: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store", create=True)
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(job.train, "get_context", lambda: context)
    monkeypatch.setattr(job, "run_attempt", Mock(side_effect=error))
    config = {"store_url": store.url, "attempt_key": "a", "gpus": "0", "num_threads": str(torch.get_num_threads())}
    with nullcontext() if is_final else pytest.raises(StoreError):
        job.train_attempt(config)
    assert (store.size("a/failure.json") is not None) is is_final
