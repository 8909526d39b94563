"""Checkpoints of a meta-run in the store: whole or not at all, the last few kept."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from workers.contracts.artifacts import MANIFEST, Artifact
from workers.contracts.errors import CheckpointMismatchError, ObjectMissingError, StoreError
from workers.contracts.meta_runs import Adjustment, CheckpointManifest
from workers.meta.learning.log import StepEntry, log_lines, read_log
from workers.meta.learning.state import CHECKPOINT, MetaState
from workers.store.protocol import Store

LOG: Final = "log.jsonl"
MEDIA_TYPES: Final = {CHECKPOINT: "application/octet-stream", LOG: "application/jsonl"}

logger = logging.getLogger("archprior.meta")


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a checkpoint holds beside the state: the log of all steps, and the adjustments so far."""

    log: list[StepEntry]
    adjustments: tuple[Adjustment, ...]


class Checkpoints:
    """The checkpoints of one run.

    Each lies in a folder named for its step, its manifest written last: what has no manifest does not count.

    Args:
        store: Where they lie.
        prefix: Under which, without a final slash.
        num_kept: Newest ones that stay.
    """

    def __init__(self, store: Store, prefix: str, *, num_kept: int = 3) -> None:
        self._store, self._prefix, self._num_kept = store, prefix, num_kept

    def save(self, state: MetaState, log: Sequence[StepEntry], adjustments: tuple[Adjustment, ...]) -> None:
        """Write a checkpoint of the state and of the log of all steps; then let the oldest go.

        Raises:
            StoreError: The store, or the disk of this node, does not take it; the earlier ones are untouched.
        """
        folder = self._folder(state.step)
        with tempfile.TemporaryDirectory(prefix="archprior-checkpoint-") as made:
            _write(state, log, Path(made))
            files = tuple(_artifact(Path(made) / name) for name in MEDIA_TYPES)
            # One of an earlier attempt with this step may be half overwritten from here on.
            self._store.delete(f"{folder}/{MANIFEST}")
            for file in files:
                self._store.put_file(f"{folder}/{file.name}", Path(made) / file.name, media_type=file.media_type)
        manifest = CheckpointManifest(
            step=state.step,
            config=state.config,
            class_names=state.class_names,
            adjustments=adjustments,
            files=files,
        )
        data = manifest.model_dump_json().encode()
        self._store.put_bytes(f"{folder}/{MANIFEST}", data, media_type="application/json")
        # Later ones, passed over as damaged, must not push out those that are whole.
        for step in [step for step in self.steps() if step <= state.step][: -self._num_kept]:
            self._remove(step)

    def steps(self) -> tuple[int, ...]:
        """Return the steps of the whole checkpoints, oldest first."""
        keys = (item.key.removeprefix(f"{self._prefix}/").split("/") for item in self._store.list(f"{self._prefix}/"))
        return tuple(sorted(int(key[0]) for key in keys if len(key) == 2 and key[1] == MANIFEST and key[0].isdigit()))

    def restore(self, state: MetaState) -> Restored | None:
        """Bring a fresh state to the newest whole checkpoint; return what else it holds, or None where there is none.

        One that is damaged is passed over, with a warning, for the one before.

        Raises:
            CheckpointMismatchError: Another configuration, another space or other classes wrote it.
            NewerFormatError: A newer ArchPrior did.
        """
        for step in reversed(self.steps()):
            manifest = self._manifest(step)
            if manifest is None:
                continue
            if manifest.config != state.config:
                raise _mismatch(f"the checkpoint of step {step} belongs to another configuration", manifest, state)
            if manifest.class_names != state.class_names:
                raise _other_classes(f"the checkpoint of step {step} belongs to other classes", manifest, state)
            with tempfile.TemporaryDirectory(prefix="archprior-checkpoint-") as made:
                if not self._fetch(manifest, Path(made)):
                    continue
                state.load(Path(made) / CHECKPOINT)
                lines = (Path(made) / LOG).read_text(encoding="utf-8").splitlines()
            return Restored(log=read_log(lines), adjustments=manifest.adjustments)
        return None

    def _manifest(self, step: int) -> CheckpointManifest | None:
        try:
            key = f"{self._folder(step)}/{MANIFEST}"
            return CheckpointManifest.from_stored(self._store.get_bytes(key), key)
        except (ObjectMissingError, ValidationError) as error:
            logger.warning("the checkpoint of step %d is passed over: %s", step, error)
            return None

    def _fetch(self, manifest: CheckpointManifest, folder: Path) -> bool:
        for file in manifest.files:
            try:
                self._store.get_file(f"{self._folder(manifest.step)}/{file.name}", folder / file.name)
            except ObjectMissingError as error:
                logger.warning("the checkpoint of step %d is passed over: %s", manifest.step, error)
                return False
            if _artifact(folder / file.name) != file:
                logger.warning("the checkpoint of step %d is passed over: %s is damaged", manifest.step, file.name)
                return False
        return True

    def _remove(self, step: int) -> None:
        folder = self._folder(step)
        for name in (MANIFEST, *MEDIA_TYPES):  # the manifest first: half of a checkpoint is none
            self._store.delete(f"{folder}/{name}")

    def _folder(self, step: int) -> str:
        return f"{self._prefix}/{step:08d}"


def _write(state: MetaState, log: Sequence[StepEntry], folder: Path) -> None:
    try:
        state.save(folder / CHECKPOINT)
        (folder / LOG).write_text(log_lines(log), encoding="utf-8")
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
        raise StoreError(
            f"the node's temporary folder does not take the checkpoint of step {state.step}",
            got=str(error).partition("\n")[0],
            todo="Make room on the node's disk; earlier checkpoints are whole.",
        ) from error


def _artifact(path: Path) -> Artifact:
    data = path.read_bytes()
    return Artifact(
        name=path.name,
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=MEDIA_TYPES[path.name],
    )


def _mismatch(what: str, manifest: CheckpointManifest, state: MetaState) -> CheckpointMismatchError:
    theirs, ours = manifest.config.model_dump(mode="json"), state.config.model_dump(mode="json")
    different = [name for name in ours if theirs[name] != ours[name]]
    return CheckpointMismatchError(
        what,
        got=", ".join(f"{name}={theirs[name]}" for name in different),
        expected=", ".join(f"{name}={ours[name]}" for name in different),
        todo="Begin another run: a run goes on with the configuration that it began with.",
    )


def _other_classes(what: str, manifest: CheckpointManifest, state: MetaState) -> CheckpointMismatchError:
    theirs, ours = manifest.class_names, state.class_names
    only_theirs = [name for name in theirs if name not in ours]
    only_ours = [name for name in ours if name not in theirs]
    same = not only_theirs and not only_ours
    return CheckpointMismatchError(
        what,
        got="the same in another order" if same else f"{len(theirs)} classes, with {only_theirs[:5]}",
        expected="the order of its datasets" if same else f"{len(ours)} classes, with {only_ours[:5]}",
        todo="Begin another run: a run goes on with the datasets and classes that it began with.",
    )
