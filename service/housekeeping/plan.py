"""What nobody needs any more, judged by what is listed and what is recorded. Nothing here reads or removes.

| found | is garbage |
|---|---|
| bytes of a dataset that no row of any owner names | after a day |
| what arrived of a dataset that was settled since | at once; of a REJECTED one after the retention |
| files of an attempt before the last one, of work that has ended, but for its small files | after a day |
| checkpoints of a meta-run | once it has SUCCEEDED or is CANCELLED; STOPPED or FAILED: after the retention |
| a deleted prior | at once |
| whatever has no row at all | after a day |

The day is for what is written before it is recorded. What belongs to unfinished work is never garbage, nor is the last
attempt of anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from service.records.facts import DatasetFacts, PriorFacts, WorkFacts
from service.schemas import Garbage, GcItem
from workers.store.protocol import StoredObject

DAY_S: Final = 86_400.0
KEPT_OF_ATTEMPTS: Final = frozenset(
    {"request.json", "control.json", "progress.json", "events.json", "failure.json", "manifest.json"}
)
"""What tells how an attempt went, and has a job that the cluster takes late end by itself."""
FIRST_TO_GO: Final = frozenset({"manifest.json", "card.json"})
"""What has none of these does not count as whole, whatever is left of it."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """How old things may become.

    Attributes:
        now_s: Seconds since the epoch.
        retention_s: After which what could still be of use goes.
        grace_s: For which what has no row may be about to get one.
    """

    now_s: float
    retention_s: float
    grace_s: float = DAY_S

    def passed(self, since: float | None) -> bool:
        """Return whether the retention has passed since a moment; None: nobody knows when that was, so it has."""
        return since is None or since < self.now_s - self.retention_s

    def are_old(self, objects: Sequence[StoredObject]) -> bool:
        """Return whether all of these were written before the time of grace."""
        return all(one.modified_at < self.now_s - self.grace_s for one in objects)


@dataclass(frozen=True, kw_only=True)
class Group:
    """All objects below `ROOM/NAME/`.

    Attributes:
        room: First part of their keys.
        name: Second part: an id, or a hash.
    """

    room: str
    name: str
    objects: tuple[StoredObject, ...]

    @property
    def prefix(self) -> str:
        """What their keys begin with, without a final slash."""
        return f"{self.room}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Find:
    """Objects that nobody needs.

    Attributes:
        what: The prefix of their keys, without a final slash.
        why: In words.
    """

    kind: Garbage
    what: str
    why: str
    objects: tuple[StoredObject, ...]

    def item(self) -> GcItem:
        """Return it as the API shows it."""
        num_bytes = sum(one.num_bytes for one in self.objects)
        return GcItem(kind=self.kind, what=self.what, why=self.why, num_objects=len(self.objects), num_bytes=num_bytes)

    def in_order(self) -> tuple[str, ...]:
        """Return the keys in the order in which they are to go."""
        return tuple(sorted((one.key for one in self.objects), key=lambda key: _name(key) not in FIRST_TO_GO))


def of_dataset(group: Group, *, is_named: bool, times: Times) -> Iterator[Find]:
    """Yield the bytes of a dataset if no row of any owner names them."""
    if not is_named and times.are_old(group.objects):
        yield _all(group, "dataset", "no dataset has these bytes")


def of_upload(group: Group, row: DatasetFacts | None, times: Times) -> Iterator[Find]:
    """Yield what arrived of a dataset that no longer arrives and is not being checked."""
    if row is None:
        yield from _orphan(group, times)
    elif row.state == "REJECTED":
        if times.passed(row.changed_at):
            yield _all(group, "upload", "its dataset was refused")
    elif row.state not in {"UPLOADING", "CHECKING"}:
        yield _all(group, "upload", f"its dataset is {row.state}")


def of_work(group: Group, row: WorkFacts | None, times: Times) -> Iterator[Find]:
    """Yield what is left of attempts before the last one, and checkpoints from which nothing will go on."""
    if row is None:
        yield from _orphan(group, times)
        return
    if not row.ended:
        return
    attempts: dict[int, list[StoredObject]] = {}
    checkpoints = []
    for one in group.objects:
        match one.key.split("/")[2:]:
            case ["attempts", number, *_] if number.isdecimal():
                attempts.setdefault(int(number), []).append(one)
            case ["checkpoints", *_]:
                checkpoints.append(one)
    last = min(row.attempt, max(attempts, default=0))
    for attempt, files in sorted(attempts.items()):
        lost = tuple(one for one in files if _name(one.key) not in KEPT_OF_ATTEMPTS)
        if attempt < last and lost and times.are_old(lost):
            what, why = f"{group.prefix}/attempts/{attempt}", f"attempt {attempt} of {last} left it"
            yield Find(kind="attempt", what=what, why=why, objects=lost)
    is_over = row.state not in {"STOPPED", "FAILED"}
    if checkpoints and (is_over or times.passed(row.finished_at)):
        why = f"the meta-run is {row.state}" + ("" if is_over else ", and nobody has resumed it")
        yield Find(kind="checkpoint", what=f"{group.prefix}/checkpoints", why=why, objects=tuple(checkpoints))


def of_prior(group: Group, row: PriorFacts | None, times: Times) -> Iterator[Find]:
    """Yield the bytes of a prior that was deleted, or was never recorded."""
    if row == "deleted":
        yield _all(group, "prior", "it was deleted")
    elif row is None:
        yield from _orphan(group, times)


def _orphan(group: Group, times: Times) -> Iterator[Find]:
    if times.are_old(group.objects):
        yield _all(group, "orphan", "it has no row in the records")


def _all(group: Group, kind: Garbage, why: str) -> Find:
    return Find(kind=kind, what=group.prefix, why=why, objects=group.objects)


def _name(key: str) -> str:
    return key.rpartition("/")[2]
