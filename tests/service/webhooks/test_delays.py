import pytest

from service.webhooks.delays import DELAYS_S, MAX_ASKED_S, MAX_TRIES, asked_s, next_try_s

NOW_S = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("Tue, 14 Nov 2023 22:15:20 GMT", 120.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("999999999", MAX_ASKED_S),
        ("9" * 4000, MAX_ASKED_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_ASKED_S),
    ],
)
def test_a_receiver_asks_for_rest_in_seconds_or_until_a_date_within_bounds(header, seconds):
    assert asked_s(header, now_s=NOW_S) == seconds


@pytest.mark.parametrize(
    "header", ["", "soon", "-5", "1.5", "1e3", "²", "٣", "12, 13", "Tue, 99 Nov 2023 22:15:20 GMT", "\x00"]
)
def test_what_cannot_be_understood_asks_for_nothing(header):
    assert asked_s(header, now_s=NOW_S) == 0.0


def test_a_message_comes_again_no_earlier_than_its_receiver_asks():
    assert next_try_s(1, asked_s=0.0, factor=1.0) == DELAYS_S[0]
    assert next_try_s(1, asked_s=90.0, factor=1.2) == 90.0
    assert next_try_s(2, asked_s=1.0, factor=0.5) == 0.5 * DELAYS_S[1]


def test_after_the_last_try_it_is_given_up_whatever_its_receiver_asks():
    assert next_try_s(MAX_TRIES - 1, asked_s=0.0, factor=1.0) == DELAYS_S[-1]
    assert next_try_s(MAX_TRIES, asked_s=60.0, factor=1.0) is None
