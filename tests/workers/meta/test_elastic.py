import pytest

from workers.meta.elastic import NO_ROOM, Room, Share, num_wanted, to_retire

ONE_CPU, TWO_CPUS, ONE_GPU = Share(cpus=1, gpus=0), Share(cpus=2, gpus=0), Share(cpus=2, gpus=1)


@pytest.mark.parametrize(
    ("share", "room", "fits"),
    [
        (ONE_CPU, Room(cpus=3.0, gpus=0.0), 3),
        (TWO_CPUS, Room(cpus=3.0, gpus=0.0), 1),
        (ONE_GPU, Room(cpus=9.0, gpus=2.0), 2),
        (ONE_GPU, Room(cpus=3.0, gpus=8.0), 1),
        (ONE_GPU, Room(cpus=9.0, gpus=0.5), 0),
    ],
)
def test_as_many_workers_fit_as_the_scarcest_resource_allows(share: Share, room: Room, fits: int) -> None:
    assert share.fits(room) == fits


def wanted(
    num_now: int = 0, free: float = 0.0, most: int | None = None, excluded: int = 0, cap: int | None = None
) -> int:
    return num_wanted(
        num_now=num_now,
        room=Room(cpus=free, gpus=0.0),
        share=ONE_CPU,
        max_workers=most,
        num_excluded=excluded,
        cap=cap,
    )


def test_without_a_number_all_room_is_taken_and_one_worker_waits_where_there_is_none() -> None:
    assert wanted(free=4.0) == 4
    assert wanted(num_now=2, free=1.0) == 3
    assert wanted(num_now=2) == 2
    assert wanted() == 1


def test_a_number_that_was_asked_for_asks_for_places_that_are_not_there() -> None:
    assert wanted(most=6) == 6
    assert wanted(num_now=8, free=8.0, most=6) == 6


def test_the_cap_holds_whatever_was_asked_for_and_zero_pauses() -> None:
    assert wanted(free=9.0, cap=3) == 3
    assert wanted(most=6, cap=3) == 3
    assert wanted(num_now=4, cap=0) == 0
    assert wanted(most=2, cap=8) == 2


def test_places_of_excluded_workers_stay_empty_and_take_nothing_from_the_others() -> None:
    assert wanted(num_now=1, free=1.0, excluded=1) == 1
    assert wanted(num_now=1, free=0.0, excluded=1) == 1, "someone else has taken the place"
    assert wanted(num_now=1, free=3.0, excluded=1) == 3
    assert wanted(most=4, excluded=1) == 3
    assert wanted(num_now=1, most=2, excluded=1, cap=1) == 1, "the cap counts those that are left"


def test_those_without_a_place_go_first_then_idle_ones_then_the_newest_of_the_busy() -> None:
    workers = [("w1", "busy"), ("w2", "idle"), ("w3", "busy"), ("w4", "starting"), ("w5", "idle")]
    assert to_retire(workers, 0) == ("w4", "w5", "w2", "w3", "w1")
    assert to_retire(workers, 3) == ("w4", "w5")
    assert to_retire(workers, 5) == ()
    assert to_retire(workers, 7) == ()


def test_no_room_fits_nobody() -> None:
    assert ONE_CPU.fits(NO_ROOM) == 0
