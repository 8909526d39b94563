"""What is in the store, thing by thing, with what the records say of each: at most a few hundred things at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Final

from service.housekeeping import plan
from service.housekeeping.plan import Find, Group, Times
from service.records.housekeeping import HousekeepingRecords
from workers.store.protocol import Store, StoredObject

NUM_GROUPS: Final = 200
"""Things about which the records are asked at once."""

Look = Callable[[Sequence[Group], Times], Iterator[Find]]


class Looks:
    """Finds what nobody needs any more.

    Args:
        store: That is looked through.
        records: That say what is needed.
    """

    def __init__(self, store: Store, records: HousekeepingRecords) -> None:
        self._store, self._records = store, records
        self._looks: Mapping[str, Look] = {
            "adaptations": self._adaptations,
            "datasets": self._datasets,
            "meta-runs": self._meta_runs,
            "priors": self._priors,
            "uploads": self._uploads,
        }

    def rooms(self, times: Times) -> Iterator[Find]:
        """Yield all that is found, with as little of it in memory as the store's list takes."""
        for room in self._looks:
            yield from self.room(room, times)

    def room(self, room: str, times: Times) -> Iterator[Find]:
        """Yield what is found in one room."""
        groups = self._groups(f"{room}/")
        while batch := tuple(islice(groups, NUM_GROUPS)):
            yield from self._looks[room](batch, times)

    def again(self, find: Find, times: Times) -> Iterator[Find]:
        """Yield what is still found where something was: since then much may have happened."""
        room, name = _place(find.what)
        for group in self._groups(f"{room}/{name}/"):
            yield from (one for one in self._looks[room]((group,), times) if one.what == find.what)

    def _groups(self, prefix: str) -> Iterator[Group]:
        objects = (one for one in self._store.list(prefix) if one.key.count("/") > 1)
        for (room, name), own in groupby(objects, key=_place_of):
            yield Group(room=room, name=name, objects=tuple(own))

    def _datasets(self, groups: Sequence[Group], times: Times) -> Iterator[Find]:
        named = self._records.named(_names(groups))
        for group in groups:
            yield from plan.of_dataset(group, is_named=group.name in named, times=times)

    def _uploads(self, groups: Sequence[Group], times: Times) -> Iterator[Find]:
        rows = self._records.datasets(_names(groups))
        for group in groups:
            yield from plan.of_upload(group, rows.get(group.name), times)

    def _adaptations(self, groups: Sequence[Group], times: Times) -> Iterator[Find]:
        rows = self._records.adaptations(_names(groups))
        for group in groups:
            yield from plan.of_work(group, rows.get(group.name), times)

    def _meta_runs(self, groups: Sequence[Group], times: Times) -> Iterator[Find]:
        rows = self._records.meta_runs(_names(groups))
        for group in groups:
            yield from plan.of_work(group, rows.get(group.name), times)

    def _priors(self, groups: Sequence[Group], times: Times) -> Iterator[Find]:
        rows = self._records.priors(_names(groups))
        for group in groups:
            yield from plan.of_prior(group, rows.get(group.name), times)


def _names(groups: Sequence[Group]) -> tuple[str, ...]:
    return tuple(group.name for group in groups)


def _place(key: str) -> tuple[str, str]:
    room, name, *_ = key.split("/")
    return room, name


def _place_of(one: StoredObject) -> tuple[str, str]:
    return _place(one.key)
