"""The header `Idempotency-Key`: a request that is sent again makes nothing again.

A client whose connection broke cannot know whether its request arrived. It sends the same request with the same key
once more, and gets what the first one has made, as it stands by then.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import Header

from service.records.idempotency import Once
from workers.contracts.base import Contract

IDEMPOTENCY_KEY: Final = "Idempotency-Key"

KeyHeader = Annotated[
    str | None,
    Header(
        alias=IDEMPOTENCY_KEY,
        pattern="^[!-~]{1,128}$",
        description="Up to 128 visible ASCII characters, such as a UUID; remembered for 24 hours. "
        "The same request with the same key makes nothing new.",
    ),
]


def once(key: str | None, *, operation: str, request: Contract, files: Mapping[str, str] | None = None) -> Once | None:
    """Return a request that makes something at most once; None where it came without a key.

    Args:
        key: That came with it.
        operation: Name of what it asks for, since keys are an owner's, not a route's.
        request: Its fields, before anything is resolved that may be resolved otherwise later.
        files: Hashes of the files that came along, by their fields' names. Not the body's: a form sent again has
            another boundary.
    """
    if key is None:
        return None
    document = {"operation": operation, "request": request.model_dump(mode="json"), "files": dict(files or {})}
    fingerprint = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return Once(key=key, fingerprint=fingerprint)
