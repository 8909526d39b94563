"""One message to a real receiver."""

import asyncio
import json
import ssl
import threading
import time

import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from service.webhooks.sender import Message, Outcome, Sender
from service.webhooks.signing import new_secret

MESSAGE = Message(id="wd-1", body=json.dumps({"type": "webhook.test"}).encode())
SECRET = new_secret()


@pytest.fixture(scope="module")
def sender():
    return Sender(allow_private=True)


def send(sender, url, *, secret=SECRET, message=MESSAGE):
    return asyncio.run(sender.send(url, secret, message))


def changed(sender, **fields):
    return Sender(**{"allow_private": sender.allow_private, "tls": sender.tls, **fields})


def test_what_is_sent_proves_who_sent_it(sender, receiver):
    outcome = send(sender, receiver.url)
    assert (outcome.status, outcome.error) == (204, None)
    ((path, headers, body),) = receiver.got
    assert (path, body) == ("/hook?of=ann", MESSAGE.body)
    assert headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert headers["Content-Type"] == "application/json"
    low = {name.lower(): value for name, value in headers.items()}
    assert low["webhook-id"] == MESSAGE.id
    assert Webhook(SECRET).verify(body, low) == {"type": "webhook.test"}
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, low)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", low)


def test_the_time_is_that_of_sending(sender, receiver):
    send(changed(sender, now=lambda: 1_700_000_000.9), receiver.url)
    assert receiver.got[0][1]["webhook-timestamp"] == "1700000000"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_success_counts(sender, receiver, status):
    receiver.statuses = [status]
    assert send(sender, receiver.url).error is None


@pytest.mark.parametrize("status", [301, 307, 400, 404, 410, 429, 500, 503])
def test_everything_else_is_a_failure_and_no_redirect_is_followed(sender, receiver, status):
    receiver.statuses, receiver.headers = [status], {"Location": receiver.url}
    outcome = send(sender, receiver.url)
    assert outcome.status == status
    assert str(status) in outcome.error
    assert outcome.is_gone == (status == 410)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(("header", "asked_s"), [("30", 30.0), ("Tue, 14 Nov 2023 22:15:00 GMT", 100.0), ("soon", 0.0)])
def test_a_receiver_may_say_when_to_come_again(sender, receiver, header, asked_s):
    receiver.statuses, receiver.headers = [503], {"Retry-After": header}
    assert send(changed(sender, now=lambda: 1_700_000_000.0), receiver.url).asked_s == asked_s


def test_no_proxy_is_asked(sender, receiver, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(sender, receiver.url).error is None


def test_a_long_answer_is_not_read_to_its_end(sender, receiver):
    receiver.statuses, receiver.answer = [200], b"x" * (8 << 20)
    began_s = time.monotonic()
    assert send(sender, receiver.url).error is None
    assert time.monotonic() - began_s < 5.0


def test_who_does_not_answer_in_time_is_given_up(sender, receiver):
    receiver.released.clear()
    outcome = send(changed(sender, timeout_s=0.2), receiver.url)
    assert (outcome.status, outcome.error) == (None, "no answer within 0.2 s")


def test_a_resolver_that_hangs_is_given_up(sender):
    released = threading.Event()
    try:
        outcome = send(changed(sender, timeout_s=0.2, resolve=lambda *_: released.wait(20.0)), "http://hooks.test")
    finally:
        released.set()
    assert outcome.error == "no answer within 0.2 s"


def test_a_resolver_that_hangs_holds_up_no_exit(sender):
    threads = []

    def hang(*_):
        threads.append(threading.current_thread())
        return ["127.0.0.1"]

    send(changed(sender, timeout_s=5.0, resolve=hang), "http://hooks.test:1")
    assert threads[0].daemon


def test_nobody_who_listens_is_told_as_such(sender, receiver):
    receiver.server.server_close()
    assert send(sender, receiver.url).error.startswith("no answer: ")


def test_the_next_address_of_a_name_is_tried(sender, receiver):
    # Nobody listens at the first: the receiver has one address of loopback, not all.
    several = changed(sender, resolve=lambda *_: ["127.0.0.2", "127.0.0.1"])
    assert send(several, f"http://hooks.test:{receiver.port}/").error is None
    assert receiver.got[0][1]["Host"] == f"hooks.test:{receiver.port}"


def test_a_name_that_leads_elsewhere_the_next_time_is_refused_then(sender):
    """DNS rebinding: one answer is checked and used; what the name means later is checked anew."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    asked, connected = [], []

    class Unconnected(Sender):
        async def _post(self, client, named, address, secret, message):
            connected.append(address)
            return Outcome(status=204)

    def resolver(host, port):
        asked.append(host)
        return next(answers)

    rebound = Unconnected(allow_private=False, resolve=resolver, tls=sender.tls)
    assert send(rebound, "https://hooks.test/").error is None
    assert send(rebound, "https://hooks.test/").error == "the host has an address that is not public"
    assert asked == ["hooks.test", "hooks.test"]
    assert connected == ["93.184.215.14"]


@pytest.mark.parametrize("url", ["http://lab.example/", "https://127.0.0.1/", "https://user@lab.example/", "nonsense"])
def test_what_may_no_longer_be_asked_is_not(sender, url):
    closed = changed(sender, allow_private=False, resolve=lambda *_: pytest.fail("resolved"))
    assert send(closed, url).error.startswith("url: ")


class TlsReceiver:
    """The certificate of `hooks.test`, and whoever trusts it."""

    def __init__(self, folder):
        self.files = _certificate(folder, "hooks.test")
        self.context = ssl.create_default_context(cafile=str(self.files[0]))

    def wrap(self, receiver):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files)
        self.names = []
        context.sni_callback = lambda _, name, __: self.names.append(name)
        receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)


@pytest.fixture(scope="module")
def tls_receiver(tmp_path_factory):
    return TlsReceiver(tmp_path_factory.mktemp("tls"))


def test_a_checked_address_has_to_prove_that_it_has_the_name(receiver, tls_receiver):
    tls_receiver.wrap(receiver)
    pinned = Sender(allow_private=True, resolve=lambda *_: ["127.0.0.1"], tls=tls_receiver.context)
    assert send(pinned, f"https://hooks.test:{receiver.port}/hook").error is None
    assert tls_receiver.names == ["hooks.test"]
    other = send(pinned, f"https://other.test:{receiver.port}/hook")
    assert "certificate" in other.error.lower()
    assert len(receiver.got) == 1
    untrusting = Sender(allow_private=True, resolve=lambda *_: ["127.0.0.1"], tls=httpx.create_ssl_context())
    assert "certificate" in send(untrusting, f"https://hooks.test:{receiver.port}/hook").error.lower()


def _certificate(folder, name):
    """Files of a certificate for a name, which is its own authority, and of its key."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
