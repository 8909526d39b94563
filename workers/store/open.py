"""From a store's address to the store."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from search_spaces.errors import InvalidOptionError
from workers.store.folder import FolderStore
from workers.store.options import s3_options
from workers.store.protocol import Store

ENDPOINT_VARIABLE = "ARCHPRIOR_S3_ENDPOINT_URL"


def open_store(
    url: str,
    *,
    endpoint_url: str | None = None,
    create: bool = False,
    prompt: bool = False,
    serving: bool = False,
) -> Store:
    """Return the store at an address.

    How to speak with an S3 server is said by the environment (`S3Options`), which a job shares with the service.

    Args:
        url: `s3://bucket`, `s3://bucket/prefix`, `file:///absolute/folder`, or an absolute path.
        endpoint_url: Of the S3 server; None: what the environment's `ARCHPRIOR_S3_ENDPOINT_URL` says, else Amazon's.
        create: Make the folder or the bucket where it is missing.
        prompt: Fail within seconds where the server does not answer: for what is better left out than waited for.
        serving: Fail within half a minute where it does not answer what is answered at once: for whoever serves
            requests. Not for large objects: `rclone serve s3` reads them whole before it says a word of them.

    Raises:
        InvalidOptionError: `url` has none of these forms, or a variable of the environment cannot be used.
        StoreError: The store is missing or cannot be reached.
    """
    if url.startswith("/"):
        return FolderStore(Path(url), create=create)
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        return FolderStore(Path(unquote(parts.path)), create=create)
    if parts.scheme == "s3" and parts.netloc and not parts.query and not parts.fragment:
        # boto3 takes a fifth of a second to import; a folder store must not pay for it.
        from workers.store.s3 import S3Store

        options = s3_options(os.environ)
        if prompt:
            options = options.prompt()
        elif serving:
            options = options.serving()
        return S3Store(
            parts.netloc,
            unquote(parts.path).strip("/"),
            endpoint_url=endpoint_url or os.environ.get(ENDPOINT_VARIABLE) or None,
            options=options,
            create=create,
        )
    raise InvalidOptionError(
        "not the address of a store",
        got=url,
        expected="s3://bucket/prefix, file:///absolute/folder, or /absolute/folder",
    )
