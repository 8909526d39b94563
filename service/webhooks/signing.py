"""Signatures of what webhooks get, as Standard Webhooks defines them (https://www.standardwebhooks.com)."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final

PREFIX: Final = "whsec_"
NUM_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Return a new secret, in the form in which receivers are told it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(NUM_SECRET_BYTES)).decode()


def signed_headers(secret: str, *, message_id: str, timestamp_s: int, body: bytes) -> Mapping[str, str]:
    """Return the headers by which a receiver knows who sent a message, which one it is, and when it was sent.

    Args:
        secret: Of the webhook.
        message_id: The same each time that a message is sent: who gets it twice knows it again.
        timestamp_s: When it is sent, in seconds since the epoch.
        body: Its bytes.
    """
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{signature}",
    }
