"""A store that outlives another's short absences: what fails is tried again, for so long and no longer."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from search_spaces.errors import InvalidOptionError
from workers.contracts.errors import ObjectMissingError, StoreError
from workers.store.multipart import MultipartUpload, StoredPart
from workers.store.open import open_store
from workers.store.protocol import Store, StoredObject

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0

Result = TypeVar("Result")


def open_patiently(url: str, *, patience_s: float) -> "PatientStore":
    """Return the store at an address, tried again where it is away; every operation of it is as patient.

    Raises:
        InvalidOptionError: Not the address of a store.
        StoreError: It stayed away for so long.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return PatientStore(open_store(url), prompt=open_store(url, prompt=True), patience_s=patience_s)
        except StoreError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(LONGEST_PAUSE_S)


class PatientStore:
    """Another store, whose failures are waited out; threads may share it.

    Every operation of a store can be repeated: writes replace, deleting nothing does nothing, completing an upload
    twice completes it; of an upload that was begun twice, one is left behind. A missing object and a refused key are
    answers, not failures, and come at once.

    Args:
        store: To ask.
        prompt: The same store by shorter ways, for what is better left out than waited for; None: `store` itself.
        patience_s: From the first of an operation's failures in a row to the one that is raised; 0: no second try.
        clock: Seconds, never going back.
        pause: Waits so many seconds.

    Raises:
        InvalidOptionError: `patience_s` is negative.
    """

    def __init__(
        self,
        store: Store,
        *,
        patience_s: float,
        prompt: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if patience_s < 0:
            raise InvalidOptionError("patience_s", got=patience_s, expected="at least 0 seconds")
        self._store, self._patience_s, self._clock, self._pause = store, patience_s, clock, pause
        self._prompt = prompt or store

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def prompt(self) -> Store:
        """The same store, which fails at once: for what is better left out than waited for."""
        return self._prompt

    def put_bytes(self, key: str, data: bytes, *, media_type: str = "application/octet-stream") -> None:
        self._patiently(lambda: self._store.put_bytes(key, data, media_type=media_type))

    def put_file(
        self, key: str, path: Path, *, media_type: str = "application/octet-stream", hand_over: bool = False
    ) -> None:
        self._patiently(lambda: self._store.put_file(key, path, media_type=media_type, hand_over=hand_over))

    def get_bytes(self, key: str) -> bytes:
        return self._patiently(lambda: self._store.get_bytes(key))

    def get_file(self, key: str, path: Path) -> None:
        self._patiently(lambda: self._store.get_file(key, path))

    def local_path(self, key: str) -> Path | None:
        return self._patiently(lambda: self._store.local_path(key))

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        def begin() -> Iterator[bytes]:
            return self._store.read(key, start=start, length=length)

        # A missing object is told now, not when the first chunk is asked for.
        return self._chunks(key, begin, self._patiently(begin))

    def size(self, key: str) -> int | None:
        return self._patiently(lambda: self._store.size(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        entries = self._store.list(prefix, after=after)
        last, trial = after, self._new_trial()
        while True:
            try:
                entry = next(entries, None)
            except StoreError as error:
                trial.wait_after(error)
                entries = self._store.list(prefix, after=last)
                continue
            if entry is None:
                return
            last, trial = entry.key, self._new_trial()
            yield entry

    def delete(self, key: str) -> None:
        self._patiently(lambda: self._store.delete(key))

    def copy(self, source_key: str, target_key: str) -> None:
        self._patiently(lambda: self._store.copy(source_key, target_key))

    def presigned_get(self, key: str, *, expires_s: int, filename: str, media_type: str) -> str | None:
        return self._store.presigned_get(key, expires_s=expires_s, filename=filename, media_type=media_type)

    def begin_upload(
        self, key: str, *, num_bytes: int, media_type: str = "application/octet-stream"
    ) -> MultipartUpload:
        return self._patiently(lambda: self._store.begin_upload(key, num_bytes=num_bytes, media_type=media_type))

    def presigned_part(self, key: str, upload_id: str, number: int, *, num_bytes: int, expires_s: int) -> str | None:
        return self._store.presigned_part(key, upload_id, number, num_bytes=num_bytes, expires_s=expires_s)

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | Path) -> None:
        self._patiently(lambda: self._store.put_part(key, upload_id, number, data))

    def parts(self, key: str, upload_id: str) -> tuple[StoredPart, ...]:
        return self._patiently(lambda: self._store.parts(key, upload_id))

    def complete_upload(self, key: str, upload_id: str, *, num_bytes: int) -> None:
        self._patiently(lambda: self._store.complete_upload(key, upload_id, num_bytes=num_bytes))

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._patiently(lambda: self._store.abort_upload(key, upload_id))

    def _chunks(self, key: str, begin: Callable[[], Iterator[bytes]], first: Iterator[bytes]) -> Iterator[bytes]:
        """Yield an object's chunks; after a failure, those that are left.

        The object may have been replaced meanwhile, so reading begins anew, and what was handed out before is compared
        by its hash: a reader still sees the old bytes or the new ones, never a mixture.
        """
        chunks: Iterator[bytes] | None = first
        given, num_given = hashlib.blake2b(), 0
        again, num_left = hashlib.blake2b(), 0
        trial = self._new_trial()
        while True:
            try:
                chunks = chunks or begin()
                chunk = next(chunks, None)
            except StoreError as error:
                trial.wait_after(error)
                chunks, again, num_left = None, hashlib.blake2b(), num_given
                continue
            if num_left:
                again.update((chunk or b"")[:num_left])
                seen = min(num_left, len(chunk or b""))
                num_left -= seen
                if chunk is None or (num_left == 0 and again.digest() != given.digest()):
                    todo = "Read it again."
                    raise StoreError("the object was replaced while it was read", got=key, todo=todo)
                chunk = chunk[seen:]
            if chunk is None:
                return
            if chunk:
                given.update(chunk)
                num_given += len(chunk)
                trial = self._new_trial()
                yield chunk

    def _patiently(self, action: Callable[[], Result]) -> Result:
        trial = self._new_trial()
        while True:
            try:
                return action()
            except StoreError as error:
                trial.wait_after(error)

    def _new_trial(self) -> "_Trial":
        return _Trial(self._patience_s, self._clock, self._pause)


class _Trial:
    """Failures in a row: how long to wait after each, and when to stop."""

    def __init__(self, patience_s: float, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self._patience_s, self._clock, self._pause = patience_s, clock, pause
        self._first_at: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def wait_after(self, error: StoreError) -> None:
        """Wait before the next try, or raise `error`: at once if it is an answer, with its story if it was the last."""
        if isinstance(error, ObjectMissingError):
            raise error
        now = self._clock()
        self._first_at = now if self._first_at is None else self._first_at
        tried_s = now - self._first_at
        if tried_s >= self._patience_s:
            what = f"{error.what}, tried for {tried_s:.0f} s"
            raise type(error)(what, got=error.got, expected=error.expected, todo=error.todo) from error
        self._pause(min(self._pause_s, self._patience_s - tried_s))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
