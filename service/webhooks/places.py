"""Who gets nothing more while other messages are on their way. Pure.

A receiver that hangs holds its place until it is given up. So an owner has a few places only, as has a host, whoever
owns the webhooks that lead there: all others go past.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import httpx

from service.records.webhooks import Webhook

MAX_AT_ONCE: Final = 16
MAX_OF_OWNER: Final = 2
MAX_OF_HOST: Final = 2


@dataclass(frozen=True, kw_only=True)
class Full:
    """What gets nothing more until one of its messages has come to its end.

    Attributes:
        webhooks: By id; each gets one message at a time.
        owners: That have all their places.
        hosts: As `host_of` tells them.
    """

    webhooks: frozenset[str]
    owners: frozenset[str]
    hosts: frozenset[str]


def full(sending: Iterable[Webhook]) -> Full:
    """Return what is full while messages are being sent to these webhooks, one for each."""
    sending = tuple(sending)
    of_owner = Counter(one.owner for one in sending)
    of_host = Counter(host_of(one.url) for one in sending)
    return Full(
        webhooks=frozenset(one.id for one in sending),
        owners=frozenset(owner for owner, number in of_owner.items() if number >= MAX_OF_OWNER),
        hosts=frozenset(host for host, number in of_host.items() if number >= MAX_OF_HOST),
    )


def host_of(url: str) -> str:
    """Return the name of a webhook's host, in the one form that all its spellings have, whatever the port."""
    try:
        return httpx.URL(url).raw_host.decode("ascii").lower().removesuffix(".")
    except httpx.InvalidURL:  # another version took it for one; sending to it fails by itself
        return url
