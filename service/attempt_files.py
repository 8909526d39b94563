"""What the attempts of all kinds of work have in common: names on the cluster, and typed files in the store."""

import json
import shlex
from typing import Final, Protocol, TypeVar

from pydantic import ValidationError

from service.errors import InvalidAttemptFileError
from workers.contracts.base import StoredContract
from workers.contracts.errors import NewerFormatError, ObjectMissingError
from workers.store.protocol import Store

Stored = TypeVar("Stored", bound=StoredContract)

JSON: Final = "application/json"
REQUEST: Final = "request.json"
"""What a job reads first; written before it is submitted."""
PROGRESS: Final = "progress.json"


class Attempted(Protocol):
    """Work that a job does, in one attempt after the other."""

    @property
    def id(self) -> str: ...

    @property
    def owner(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def state(self) -> str: ...


def submission_id(work: Attempted, attempt: int | None = None) -> str:
    """Return the id of an attempt's job on the cluster; None: of the current one."""
    return f"{work.id}-a{attempt or work.attempt}"


def job_metadata(work: Attempted, *, kind: str, name: str, home: str) -> dict[str, str]:
    """Return what the Ray dashboard shows beside the current attempt's job; in the list of jobs, the `job_name`.

    Args:
        work: Whose job it is.
        kind: Of the work.
        name: That people know it by.
        home: Of the records that hold it: see `WorkRecords.home`.
    """
    return {
        "service": home,
        "kind": kind,
        "id": work.id,
        "attempt": str(work.attempt),
        "owner": work.owner,
        "name": name,
        "job_name": f"{kind} {name} of {work.owner}",
    }


def command(module: str, store: Store, prefix: str) -> str:
    """Return the shell command of an attempt's job. It holds no secret."""
    return shlex.join(("python", "-m", module, "--store", store.url, "--attempt", prefix))


class JobFiles:
    """The files of one attempt.

    Every reader returns None where the file does not exist, and raises `InvalidAttemptFileError` where it cannot be
    read as what it should be.

    Args:
        store: Where they lie.
        prefix: Of their keys, without a final slash.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self.store, self.prefix = store, prefix

    def key(self, name: str) -> str:
        """Return the store's key of one of the files."""
        return f"{self.prefix}/{name}"

    def read(self, name: str, kind: type[Stored]) -> Stored | None:
        try:
            return kind.from_stored(self.store.get_bytes(self.key(name)), self.key(name))
        except ObjectMissingError:
            return None
        except NewerFormatError as error:
            raise InvalidAttemptFileError(
                error.what, got=error.got, expected=error.expected, todo=error.todo
            ) from error
        except ValidationError as error:
            raise InvalidAttemptFileError(f"{name} is no {kind.__name__}: {error}", got=self.key(name)) from error

    def require(self, name: str, kind: type[Stored]) -> Stored:
        """Return one of the files that a finished job has left.

        Raises:
            InvalidAttemptFileError: It is missing or cannot be read.
        """
        found = self.read(name, kind)
        if found is None:
            raise InvalidAttemptFileError(f"the job left a manifest but no {name}", got=self.key(name))
        return found

    def was_started(self) -> bool:
        """Return whether the attempt has come so far that its job was submitted."""
        return self.store.size(self.key(REQUEST)) is not None

    def has_begun(self) -> bool:
        """Return whether the attempt's job has begun to work: its progress is what it writes first."""
        return self.store.size(self.key(PROGRESS)) is not None

    def write(self, name: str, document: StoredContract) -> None:
        """Write one of the files, whole or not at all."""
        data = json.dumps(document.model_dump(mode="json"), indent=1).encode()
        self.store.put_bytes(self.key(name), data, media_type=JSON)
