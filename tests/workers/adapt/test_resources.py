import pytest

from search_spaces.errors import InvalidOptionError
from workers.adapt.resources import Node, share_of_cluster


@pytest.mark.parametrize(
    ("nodes", "num_workers", "expected"),
    [
        ([{"CPU": 2}], 1, (2, 0)),
        ([{"CPU": 2}], 2, (1, 0)),
        ([{"CPU": 64}], 1, (4, 0)),
        ([{"CPU": 3}, {"CPU": 3}], 3, (1, 0)),
        ([{"CPU": 0}, {"CPU": 4}, {"CPU": 4}], 2, (4, 0)),
        ([{"CPU": 2, "GPU": 1}, {"CPU": 16}], 1, (2, 1)),
        ([{"CPU": 2, "GPU": 1}, {"CPU": 16}], 2, (4, 0)),
        ([{"CPU": 8, "GPU": 2}], 2, (4, 1)),
    ],
)
def test_every_worker_finds_a_place(nodes: list[Node], num_workers: int, expected: tuple[int, int]) -> None:
    assert share_of_cluster(nodes, num_workers) == expected


def test_more_workers_than_cpus_are_refused_instead_of_waiting_for_ever() -> None:
    with pytest.raises(InvalidOptionError, match="at most 2"):
        share_of_cluster([{"CPU": 2}], 3)
