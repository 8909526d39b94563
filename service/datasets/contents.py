"""The archives that have passed their check, in the store: each by its hash, once, whoever brought it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.records.datasets import DatasetRecords
from workers.store import layout
from workers.store.protocol import Store
from workers.tasks.archive import CheckedArchive

ZIP = "application/zip"
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Puts what was checked where jobs find it.

    Attributes:
        datasets: Whose records name it.
        store: Where it lies.
    """

    datasets: DatasetRecords
    store: Store

    @contextmanager
    def stored(
        self, sha256: str, checked: CheckedArchive, *, num_bytes: int, put: Callable[[str], None]
    ) -> Iterator[None]:
        """Have an archive and what its check has found in the store while the block records whose it is.

        A record always has its bytes. If nobody's they have become in the end, those that were put here are removed.

        Args:
            sha256: Of the archive.
            checked: What its check has found.
            num_bytes: Of the archive.
            put: Stores the archive under a key.
        """
        with self.datasets.content(sha256):
            archive = layout.dataset_archive(sha256)
            is_new = self.store.size(archive) != num_bytes
            try:
                if is_new:
                    put(archive)
                for key, contract in (
                    (layout.dataset_report(sha256), checked.report),
                    (layout.dataset_findings(sha256), checked.findings),
                ):
                    self.store.put_bytes(key, contract.model_dump_json().encode(), media_type=JSON)
                if checked.thumbnails is not None:
                    self.store.put_bytes(layout.dataset_thumbnails(sha256), checked.thumbnails, media_type="image/jpeg")
                yield
            finally:
                if is_new and not self.datasets.is_named(sha256):
                    self._remove(sha256)

    def _remove(self, sha256: str) -> None:
        for key in (
            layout.dataset_archive(sha256),
            layout.dataset_report(sha256),
            layout.dataset_findings(sha256),
            layout.dataset_thumbnails(sha256),
        ):
            self.store.delete(key)
