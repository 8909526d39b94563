"""An attempt run in this process, as one rank."""

from collections.abc import Callable

import torch

from workers.adapt.attempt import run_attempt
from workers.adapt.sync import Group
from workers.contracts.artifacts import Manifest, Metrics
from workers.store.folder import FolderStore

MakeAttempt = Callable[..., str]
CPU = torch.device("cpu")


def run(store: FolderStore, key: str) -> tuple[Manifest, Metrics]:
    manifest = run_attempt(store, key, Group(), CPU)
    assert manifest is not None
    return manifest, Metrics.model_validate_json(store.get_bytes(f"{key}/metrics.json"))
