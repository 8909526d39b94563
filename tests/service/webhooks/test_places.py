from datetime import UTC, datetime

import pytest

from service.records.webhooks import Webhook
from service.webhooks.places import MAX_AT_ONCE, MAX_OF_HOST, MAX_OF_OWNER, full, host_of


def webhook(number, owner, url):
    created_at = datetime(2026, 1, 1, tzinfo=UTC)
    return Webhook(
        id=f"wh-{number}", owner=owner, url=url, secret="", kinds=None, created_at=created_at, disabled_at=None
    )


def test_while_nothing_is_sent_all_may_be_sent_to():
    found = full([])
    assert (found.webhooks, found.owners, found.hosts) == (frozenset(), frozenset(), frozenset())


def test_a_webhook_gets_one_message_at_a_time_an_owner_and_a_host_a_few():
    sending = [webhook(number, "ann", f"https://a-{number}.test/") for number in range(MAX_OF_OWNER)]
    sending += [webhook(10 + number, f"owner-{number}", "https://b.test/") for number in range(MAX_OF_HOST)]
    assert full(sending).webhooks == {one.id for one in sending}
    assert (full(sending).owners, full(sending).hosts) == ({"ann"}, {"b.test"})
    assert full(sending[1:-1]).owners == full(sending[1:-1]).hosts == frozenset()


def test_two_owners_or_two_hosts_leave_most_places_to_others():
    assert 2 * max(MAX_OF_OWNER, MAX_OF_HOST) <= MAX_AT_ONCE // 2


@pytest.mark.parametrize(
    "url", ["https://LAB.example/x", "https://lab.example:8443/", "http://lab.example", "https://lab.example./?a=b"]
)
def test_a_host_has_one_name(url):
    assert host_of(url) == "lab.example"


def test_what_is_no_url_any_more_stands_for_itself():
    assert host_of("https://lab.example:x/") == "https://lab.example:x/"


def test_hosts_without_letters_of_ours_have_one_name_too():
    assert host_of("https://bücher.example/") == host_of("https://xn--bcher-kva.example/")
    assert host_of("https://[::1]:8/") == "::1"
