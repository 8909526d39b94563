"""Where webhooks may lead: the form of their URLs, and the addresses of their names."""

import ipaddress

import pytest

from service.errors import InvalidRequestError
from service.webhooks.addresses import RefusedAddressError, allowed_addresses, is_public, parsed, resolve

PUBLIC = [
    "93.184.215.14",
    "1.1.1.1",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.9",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::1",
    "2002:a00:5::1",
    "100::1",
]


def url(text):
    return parsed(text, allow_private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_asked(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_no_other_address_may_be_asked_by_name_or_number(address):
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(RefusedAddressError, match="not public"):
        allowed_addresses(url("https://hooks.test"), lambda *_: [address], allow_private=False)
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequestError):
        parsed(f"https://{host}/hook", allow_private=False)
    assert parsed(f"http://{host}/hook", allow_private=True).host == address


@pytest.mark.parametrize(
    "text",
    [
        "http://lab.example/hook",
        "ftp://lab.example/hook",
        "file:///etc/passwd",
        "lab.example/hook",
        "//lab.example/hook",
        "https://",
        "https:///hook",
        "https://user@lab.example",
        "https://user:word@lab.example",
        "https://lab.example:0/",
        "https://lab.example:99999/",
        "https://lab.example:x/",
        "https://lab.example/\n",
        "https://lab.example/\0",
        "https://[::1/",
        "https://lab.example\\@127.0.0.1/",
        "https://127.0.0.1/",
        "https://[::1]/",
    ],
)
def test_a_url_of_no_good_form_is_refused(text):
    with pytest.raises(InvalidRequestError) as refused:
        parsed(text, allow_private=False)
    assert refused.value.findings[0].startswith("url: ")


@pytest.mark.parametrize(
    "text",
    [
        "https://lab.example",
        "https://lab.example:8443/a?b=c#d",
        "https://bücher.example/",
        "https://xn--a/",  # which nobody can decode, nor will resolve
        "https://1.1.1.1/x",
    ],
)
def test_a_url_of_good_form_is_taken(text):
    assert parsed(text, allow_private=False).scheme == "https"


@pytest.mark.parametrize(
    "addresses",
    [
        [],
        ["93.184.215.14", "10.0.0.5"],  # not one of them is left out silently
        ["10.0.0.5", "93.184.215.14"],
        ["fe80::1%eth0"],
        ["2606:2800:21f:cb07::1%1"],
        ["no address"],
    ],
)
def test_a_name_with_any_bad_address_is_refused(addresses):
    with pytest.raises(RefusedAddressError):
        allowed_addresses(url("https://hooks.test"), lambda *_: addresses, allow_private=False)


def test_a_name_is_resolved_for_its_port():
    asked = []

    def resolver(host, port):
        asked.append((host, port))
        return ["1.1.1.1"]

    for text in ("https://hooks.test", "http://hooks.test", "https://bücher.example:8443"):
        assert allowed_addresses(url(text), resolver, allow_private=False) == ("1.1.1.1",)
    assert asked == [("hooks.test", 443), ("hooks.test", 80), ("xn--bcher-kva.example", 8443)]


@pytest.mark.parametrize("error", [OSError("unknown"), UnicodeError("label too long")])
def test_a_name_that_is_not_known_is_refused(error):
    def resolver(*_):
        raise error

    with pytest.raises(RefusedAddressError, match="not known"):
        allowed_addresses(url("https://hooks.test"), resolver, allow_private=False)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost"])
def test_other_spellings_of_this_machine_are_seen_through(host):
    with pytest.raises(RefusedAddressError):
        allowed_addresses(url(f"http://{host}/"), resolve, allow_private=False)
