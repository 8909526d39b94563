"""Where webhooks may lead: the service is not to be sent to what only it can reach.

A name is resolved here, each time anew, and every address that it has must be one of the public internet. The
connection then goes to an address that was checked, not to the name, whatever that means a moment later.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Final

import httpx

from search_spaces.errors import ArchPriorError
from service.errors import InvalidRequestError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host name, for a port; raises `OSError`."""

MAX_ADDRESSES: Final = 16
GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
RESERVED: Final = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("192.88.99.0/24"))
"""Of protocols, some of which count as global; the second is of 6to4's relays, which are no more."""


class RefusedAddressError(ArchPriorError):
    """A webhook whose address may not be asked."""

    code = "refused_address"


def parsed(url: str, *, allow_private: bool) -> httpx.URL:
    """Return a webhook's URL, if its form allows that it is ever asked. A name's addresses are checked later.

    Args:
        url: As somebody gave it.
        allow_private: Whether addresses that are not public may be asked, and without TLS.

    Raises:
        InvalidRequestError: It is no URL to send to.
    """
    try:
        found = httpx.URL(url)
        port = found.port
    except httpx.InvalidURL as error:
        raise _refused("it is no URL") from error
    if found.scheme not in ({"https", "http"} if allow_private else {"https"}):
        raise _refused("its scheme is not https")
    host = found.raw_host.decode("ascii")  # not `host`, which is decoded, or fails to be
    if not host:
        raise _refused("it names no host")
    if found.userinfo:
        raise _refused("it holds a name or a password")
    if port is not None and not 0 < port < 1 << 16:
        raise _refused("it names no port")
    address = _literal(host)
    if address is not None and not allow_private and not is_public(address):
        raise _refused("its address is not public")
    return found


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host name as this machine's resolver tells them. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def allowed_addresses(url: httpx.URL, resolve: Resolve, *, allow_private: bool) -> tuple[str, ...]:
    """Return the addresses that may be asked for a URL, in the resolver's order.

    Args:
        url: Of a webhook.
        resolve: Tells the addresses of a name; may take its time.
        allow_private: Whether addresses that are not public may be asked.

    Raises:
        RefusedAddressError: The name is not known, or one of its addresses is not public.
    """
    try:
        texts = tuple(resolve(url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)))
    except (OSError, UnicodeError) as error:
        raise RefusedAddressError("the host's name is not known") from error
    # Not one is left out silently: who mixes them is up to something. Which one it was is nobody's business.
    if not texts or not (allow_private or all(map(_is_public_text, texts))):
        raise RefusedAddressError("the host has an address that is not public")
    return texts[:MAX_ADDRESSES]


def is_public(address: Address) -> bool:
    """Return whether an address is one of the public internet, by whatever other address it may be reached through."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        # Teredo holds an address of a relay and one of a client.
        if address not in GLOBAL_UNICAST or address.teredo is not None:
            return False
    elif any(address in network for network in RESERVED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _is_public_text(text: str) -> bool:
    address = _literal(text)  # none with a zone, such as fe80::1%eth0, which is of one link
    return address is not None and is_public(address)


def _literal(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if isinstance(address, ipaddress.IPv6Address) and address.scope_id else address


def _refused(why: str) -> InvalidRequestError:
    return InvalidRequestError(
        "this webhook cannot be",
        findings=(f"url: {why}",),
        expected="https://host/path, without a user's name, at a public address",
        todo="An operator may allow others with ARCHPRIOR_WEBHOOK_PRIVATE_ADDRESSES=1.",
    )
