from datetime import UTC, datetime

import pytest

from search_spaces.errors import InvalidOptionError
from service.client.retries import RetryPolicy, retry_after_s

NOON = datetime(2026, 10, 21, 12, 0, 0, tzinfo=UTC)


def test_delays_double_up_to_their_bound_and_end():
    policy = RetryPolicy(num_tries=6, first_delay_s=1, max_delay_s=5)
    assert [policy.delay_s(failures) for failures in range(1, 7)] == [1, 2, 4, 5, 5, None]


def test_what_the_service_asks_for_goes_before_the_own_delay():
    policy = RetryPolicy(max_retry_after_s=10)
    assert [policy.delay_s(1, asked) for asked in (0.0, 10.0, 10.1)] == [0.0, 10.0, None]
    assert policy.delay_s(policy.num_tries, 0.0) is None


def test_a_policy_without_a_try_is_refused():
    with pytest.raises(InvalidOptionError):
        RetryPolicy(num_tries=0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("12", 12.0),
        ("Wed, 21 Oct 2026 12:01:30 GMT", 90.0),
        ("Wed, 21 Oct 2026 12:01:30 -0000", 90.0),
        ("Wed, 21 Oct 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert retry_after_s(header, NOON) == seconds
