"""What `/v1/datasets` takes and returns."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from service.schemas.common import Page, Problem
from workers.contracts.base import Contract
from workers.contracts.datasets import DatasetFindings, DatasetReport

DatasetState = Literal["UPLOADING", "CHECKING", "READY", "REJECTED"]


class UploadView(Contract):
    """How the parts of a dataset arrive.

    Attributes:
        part_bytes: Size of every part but the last, which holds the rest.
        num_parts: How many there are, numbered from 1 on.
        num_arrived: How many have arrived.
        parts: Path of the list of parts, which says where each is to be sent.
        complete: Path to POST to once all have arrived.
        expires_at: When what has not been completed is forgotten.
    """

    part_bytes: int
    num_parts: int
    num_arrived: int
    parts: str
    complete: str
    expires_at: datetime


class DatasetView(Contract):
    """A dataset as it stands now.

    Attributes:
        state: READY ones can be used. The others arrive, are being checked, or were refused for what `error` says.
        sha256: Of its archive, once that was checked.
        report: What the check found, once it has.
        findings: What to know before a network that has learned from it is trusted.
        thumbnails: Path of a picture of some of its images.
        source: Where it was copied from.
        upload: How its parts arrive, while they do.
        error: Why it is REJECTED; while it is CHECKING, why the last try brought no verdict. It is tried again then.
        meta_use: Whether meta-runs may learn from it.
        terms: Under which its images stand, for the cards of priors that learn from it.
    """

    id: str
    name: str
    state: DatasetState = "READY"
    sha256: str | None = None
    num_bytes: int
    report: DatasetReport | None = None
    findings: DatasetFindings | None = None
    thumbnails: str | None = None
    source: str | None = None
    upload: UploadView | None = None
    error: Problem | None = None
    created_at: datetime
    meta_use: bool = False
    terms: str = "not stated"


class DatasetChange(Contract):
    """What may be changed of a dataset; what is absent stays."""

    meta_use: bool | None = None
    terms: str | None = Field(None, min_length=1, max_length=200)


class DatasetBegin(DatasetChange):
    """A dataset that will arrive in parts.

    Attributes:
        num_bytes: Of the zip.
        name: As people know it.
        sha256: Of the zip, in hexadecimal, where its sender knows it: another one is refused.
    """

    num_bytes: int = Field(ge=1, le=1 << 50)
    name: str | None = Field(None, max_length=200)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class DatasetSource(DatasetChange):
    """A dataset that the service copies.

    Attributes:
        source: Of the zip, `s3://bucket/key`, below one of the prefixes that the service's operator allows.
        name: As people know it; the file's name if absent.
    """

    source: str = Field(min_length=6, max_length=1024)
    name: str | None = Field(None, max_length=200)


class UploadPart(Contract):
    """One part of a dataset that arrives.

    Attributes:
        href: Where to PUT its bytes: a path from the service's root, or a signed address of the object store, which
            needs no key and gets none.
        arrived: Whether it is there, whole.
    """

    number: int
    num_bytes: int
    href: str
    arrived: bool


class UploadPartPage(Contract):
    """Parts in the order of their numbers; `after=next_after` asks for those that follow, None: there are no more."""

    items: tuple[UploadPart, ...]
    next_after: int | None = None


class DatasetPage(Page):
    """Datasets, newest first."""

    items: tuple[DatasetView, ...]
