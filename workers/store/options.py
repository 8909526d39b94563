"""How to speak with an S3 server. Free of boto3."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Self, cast, get_args
from urllib.parse import urlsplit

from search_spaces.errors import InvalidOptionError

AddressingStyle = Literal["auto", "path", "virtual"]
Encryption = Literal["AES256", "aws:kms"]

PREFIX: Final = "ARCHPRIOR_S3_"
# What is better left out than waited for, such as progress, waits for a server that is silent no longer than this.
PROMPT_CONNECT_TIMEOUT_S: Final = 2.0
PROMPT_READ_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long a silent server is waited for.

    Attributes:
        max_attempts: How often a request is made before it counts as failed.
        connect_timeout_s: Seconds that a connection may take.
        read_timeout_s: Seconds without a byte of an answer.
    """

    max_attempts: int
    connect_timeout_s: float
    read_timeout_s: float


SERVING: Final = Waits(max_attempts=3, connect_timeout_s=3.0, read_timeout_s=8.0)
"""While somebody waits for an answer: 27 s at most, with the pauses between the tries."""


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """How to speak with an S3 server. Fields may be given as `ARCHPRIOR_S3_<NAME>`.

    Attributes:
        public_endpoint_url: Where the people who download reach the server; they are then sent there. None: all bytes
            go through the service.
        addressing_style: `path` (`https://server/bucket/key`), `virtual` (`https://bucket.server/key`), or `auto`, what
            boto3 prefers. None: `auto` for Amazon's server, `path` for any other.
        sse: How the server encrypts what it stores: `AES256` (SSE-S3) or `aws:kms` (SSE-KMS). None: as the bucket says.
        sse_kms_key_id: The key of SSE-KMS. None: the account's own.
        max_attempts: How often a request is made before it counts as failed.
        connect_timeout_s: Seconds that a connection may take. Not in the environment, as the next one.
        read_timeout_s: Seconds without a byte of an answer.
        at_once: How long to wait for what a server answers at once: all but files that go up or down, copies, and
            completed uploads, over which it may be busy for a while without a word. None: as long as for these.

    Raises:
        InvalidOptionError: A value is not one of these.
    """

    public_endpoint_url: str | None = None
    addressing_style: AddressingStyle | None = None
    sse: Encryption | None = None
    sse_kms_key_id: str | None = None
    max_attempts: int = 5
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    at_once: Waits | None = None

    @property
    def waits(self) -> Waits:
        """How long to wait for what may take the server a while."""
        return Waits(
            max_attempts=self.max_attempts,
            connect_timeout_s=self.connect_timeout_s,
            read_timeout_s=self.read_timeout_s,
        )

    def serving(self) -> Self:
        """Return these options for one who serves requests, of whom somebody waits for each answer."""
        return replace(self, at_once=replace(SERVING, max_attempts=min(self.max_attempts, SERVING.max_attempts)))

    def prompt(self) -> Self:
        """Return these options for one short try."""
        return replace(
            self,
            max_attempts=1,
            connect_timeout_s=PROMPT_CONNECT_TIMEOUT_S,
            read_timeout_s=PROMPT_READ_TIMEOUT_S,
        )

    def __post_init__(self) -> None:
        _check_choice("addressing_style", self.addressing_style, get_args(AddressingStyle))
        _check_choice("sse", self.sse, get_args(Encryption))
        if self.sse_kms_key_id is not None and self.sse != "aws:kms":
            raise _invalid("sse_kms_key_id", self.sse_kms_key_id, expected="a key only where sse is aws:kms")
        if self.max_attempts < 1:
            raise _invalid("max_attempts", self.max_attempts, expected="at least 1")
        if self.public_endpoint_url is not None:
            parts = urlsplit(self.public_endpoint_url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise _invalid(
                    "public_endpoint_url", self.public_endpoint_url, expected="something like https://objects.example"
                )


def s3_options(environment: Mapping[str, str]) -> S3Options:
    """Return the options that an environment gives; what is absent or empty is as by default.

    Raises:
        InvalidOptionError: A value cannot be used.
    """

    def given(name: str) -> str | None:
        return environment.get(f"{PREFIX}{name.upper()}") or None

    max_attempts = given("max_attempts") or "5"
    if not max_attempts.isdecimal():
        raise _invalid("max_attempts", max_attempts, expected="a number")
    return S3Options(
        public_endpoint_url=given("public_endpoint_url"),
        addressing_style=cast("AddressingStyle | None", given("addressing_style")),  # checked by the class
        sse=cast("Encryption | None", given("sse")),
        sse_kms_key_id=given("sse_kms_key_id"),
        max_attempts=int(max_attempts),
    )


def _check_choice(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise _invalid(name, value, expected=" or ".join(choices))


def _invalid(name: str, value: object, *, expected: str) -> InvalidOptionError:
    return InvalidOptionError(
        f"the option {name} of S3", got=value, expected=expected, todo=f"Mend {PREFIX}{name.upper()}."
    )
