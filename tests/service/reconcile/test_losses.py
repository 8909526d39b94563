import pytest

from service.reconcile.losses import Past, num_in_a_row


def exhausted(*steps, max_attempts=3, ended=()):
    """Whether attempts with these checkpoints, the first first, are too many; those in `ended` were not lost."""
    past = [Past(kept=step, ended=number in ended) for number, step in enumerate(steps, 1)]
    return num_in_a_row(iter(reversed(past))) >= max_attempts


@pytest.mark.parametrize("steps", [(None,), (None, None), (None, 0), (500, 500), (500, None, 500)])
def test_fewer_losses_than_the_limit_are_not_too_many(steps):
    assert not exhausted(*steps)


@pytest.mark.parametrize(
    "steps",
    [(None, None, None), (0, None, 0), (500, 500, 500, 500), (500, None, None, None), (500, None, 500, 500, 500)],
)
def test_as_many_losses_in_a_row_without_a_newer_checkpoint_are(steps):
    assert exhausted(*steps)


def test_an_attempt_that_got_further_begins_the_count_anew():
    reached = [None, None]
    for step in range(500, 20_000, 500):
        reached += [step, step, None]
        assert not exhausted(*reached)
    assert exhausted(*reached, None)


def test_one_that_died_before_it_knew_of_the_last_checkpoint_is_no_sign_that_the_next_got_further():
    assert exhausted(500, None, None, 500, 500)


def test_losses_before_an_end_of_its_own_do_not_count():
    assert exhausted(None, None, None)
    assert not exhausted(None, None, None, None, ended={3})
    assert exhausted(None, None, None, None, None, None, ended={3})


@pytest.mark.parametrize(
    ("steps", "ended", "num"),
    [
        ((500, None, 500), {2}, 1),  # the second was stopped while it waited: the third is no further than the first
        ((500, None, 900), {2}, 0),
        ((500, None, None), {2}, 1),
        ((500, 500, 500, None, None), {3}, 2),
        ((500, None, None, 500, 500), {1, 3}, 2),
    ],
)
def test_how_far_those_before_an_end_came_counts_all_the_same(steps, ended, num):
    past = [Past(kept=step, ended=number in ended) for number, step in enumerate(steps, 1)]
    assert num_in_a_row(reversed(past)) == num


def test_with_a_limit_of_one_the_first_loss_without_a_checkpoint_is_the_last():
    assert exhausted(None, max_attempts=1)
    assert not exhausted(500, max_attempts=1)
    assert exhausted(500, 500, max_attempts=1)


@pytest.mark.parametrize(
    ("steps", "num"), [((None,), 1), ((500,), 0), ((500, 500), 1), ((500, 900), 0), ((500, 900, None, 900), 2)]
)
def test_losses_are_counted_since_the_attempt_that_came_furthest_first(steps, num):
    assert num_in_a_row(Past(kept=step, ended=False) for step in reversed(steps)) == num


def test_no_more_attempts_are_read_than_are_needed():
    def attempts():
        yield Past(kept=900, ended=False)
        yield Past(kept=500, ended=False)
        pytest.fail("one more was read")

    assert num_in_a_row(attempts()) == 0
