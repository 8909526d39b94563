"""The tables. A change here needs a migration; a test compares the two."""

from typing import ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Times are seconds since the epoch by the database's clock; JSON columns hold contracts."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {
        dict[str, object]: JSON(none_as_null=True),
        list[object]: JSON(none_as_null=True),
    }


class DatasetRow(Base):
    """A dataset: one that arrives, is checked, is READY or was REJECTED, or of which only this row is left."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("owner", "sha256"),
        Index(None, "owner", "created_at", "id"),
        Index(None, "owner", "state", "created_at", "id"),
        Index(None, "state", "changed_at"),
        Index(None, "sha256"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16), server_default="READY")
    # Of the archive that was checked: READY only.
    sha256: Mapped[str | None] = mapped_column(String(64))
    report: Mapped[dict[str, object] | None]
    findings: Mapped[dict[str, object] | None]
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Float)
    changed_at: Mapped[float | None] = mapped_column(Float)
    # Whether meta-runs may learn from it, and under which terms its images stand.
    meta_use: Mapped[bool] = mapped_column(Boolean, server_default=false())
    terms: Mapped[str] = mapped_column(String(200), server_default="not stated")
    # Where it was copied from, how it arrives, what its sender says its hash is, and why it was REJECTED. While it is
    # DELETING, `declared_sha256` is that of the bytes that are to go.
    source: Mapped[str | None] = mapped_column(String(1024))
    upload: Mapped[dict[str, object] | None]
    declared_sha256: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[dict[str, object] | None]
    # The owner's older dataset of the same bytes, which stands for this one.
    alias_of: Mapped[str | None] = mapped_column(String(64))
    # While it is CHECKING: tries that ended without a verdict and may have done so because of it, all tries that did,
    # before when there is no other one, and in `error`, why.
    num_tries: Mapped[int] = mapped_column(Integer, server_default="0")
    num_waits: Mapped[int] = mapped_column(Integer, server_default="0")
    check_after: Mapped[float | None] = mapped_column(Float)


class WorkRow(Base):
    """What a job does, attempt after attempt: what was asked, how far it has come, and how it ended."""

    __abstract__ = True

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
    request: Mapped[dict[str, object]]
    spent_s: Mapped[float] = mapped_column(Float)
    # Attempts whose job ended by itself without leaving an outcome.
    num_failures: Mapped[int] = mapped_column(Integer, server_default="0")
    # What waits goes by priority, largest first, then by arrival.
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    arrival: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    error: Mapped[dict[str, object] | None]
    result: Mapped[dict[str, object] | None]
    artifacts: Mapped[list[object] | None]


class AdaptationRow(WorkRow):
    """An adaptation."""

    __tablename__ = "adaptations"
    __table_args__ = (
        Index(None, "owner", "created_at", "id"),
        Index(None, "owner", "state", "created_at", "id"),
        Index(None, "state", "priority", "arrival"),
    )

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    dataset_sha256: Mapped[str] = mapped_column(String(64))
    cancel_requested_at: Mapped[float | None] = mapped_column(Float)


class MetaRunRow(WorkRow):
    """A meta-run."""

    __tablename__ = "meta_runs"
    __table_args__ = (
        Index(None, "owner", "created_at", "id"),
        Index(None, "owner", "state", "created_at", "id"),
        Index(None, "state", "priority", "arrival"),
    )

    datasets: Mapped[list[object]]
    prior_id: Mapped[str] = mapped_column(String(128))
    # When a stop or a cancel was asked for.
    asked_at: Mapped[float | None] = mapped_column(Float)


class PriorRow(Base):
    """A meta-prior in the store; the bundled ones have no row. The row of a deleted one stays: ids are used once."""

    __tablename__ = "priors"
    __table_args__ = (Index(None, "owner", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    search_space: Mapped[str] = mapped_column(String(64))
    meta_run_id: Mapped[str | None] = mapped_column(ForeignKey("meta_runs.id"))
    created_at: Mapped[float] = mapped_column(Float)
    # Written by whoever is about to use it, in the transaction that records the use: it serializes use and deletion.
    used_at: Mapped[float | None] = mapped_column(Float)
    deleted_at: Mapped[float | None] = mapped_column(Float)


class PromotionRow(Base):
    """Each time that a prior was made its space's default; the latest counts, so a promotion is one insert."""

    __tablename__ = "promotions"
    __table_args__ = (Index(None, "search_space", "id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    search_space: Mapped[str] = mapped_column(String(64))
    prior_id: Mapped[str] = mapped_column(String(128))
    owner: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Float)


class LeaseRow(Base):
    """Who may do a thing that only one process may do at a time, and until when."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[float] = mapped_column(Float)


class TurnRow(Base):
    """How many turns of one name were taken; written by whoever takes the next, which makes them follow one another."""

    __tablename__ = "turns"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class OwnerRow(Base):
    """A team with its quotas; None: what the service's settings say.

    `touched_at` is written first in a transaction that admits something, which makes those of one owner follow one
    another: none of two that come at once is counted as if the other were not there.
    """

    __tablename__ = "owners"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    max_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_unfinished: Mapped[int | None] = mapped_column(Integer)
    touched_at: Mapped[float] = mapped_column(Float)


class KeyRow(Base):
    """An API key, of which only the hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("owners.id"))
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(200))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float | None] = mapped_column(Float)
    last_used_at: Mapped[float | None] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)


class AuditRow(Base):
    """What somebody asked this service to change, and how it was answered."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "owner", "id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float)
    owner: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(16))
    request_id: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(String(512))
    status: Mapped[int] = mapped_column(Integer)


class IdempotencyRow(Base):
    """What a request with an `Idempotency-Key` has made, so that its repetition makes nothing more."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    work_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Float)


class EventRow(Base):
    """Something that became of a dataset, an adaptation or a meta-run: written in the transaction that changed it."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "created_at"),)

    work_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, object]]
    created_at: Mapped[float] = mapped_column(Float)


class WebhookRow(Base):
    """Where an owner's events are sent. The secret signs what is sent, so it is kept as it is."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "owner", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str] = mapped_column(String(128))
    # Kinds of events; None: all.
    kinds: Mapped[list[object] | None]
    created_at: Mapped[float] = mapped_column(Float)
    # When its receiver said that it wants no more.
    disabled_at: Mapped[float | None] = mapped_column(Float)
    deleted_at: Mapped[float | None] = mapped_column(Float)


class DeliveryRow(Base):
    """An event on its way to a webhook: recorded with the event, tried until it was taken or given up."""

    __tablename__ = "deliveries"
    __table_args__ = (Index(None, "next_at"), Index(None, "webhook_id", "created_at", "id"))

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id"))
    work_id: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[float] = mapped_column(Float)
    num_tries: Mapped[int] = mapped_column(Integer, server_default="0")
    # None: taken, or given up.
    next_at: Mapped[float | None] = mapped_column(Float)
    delivered_at: Mapped[float | None] = mapped_column(Float)
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None] = mapped_column(String(500))


class IdentityRow(Base):
    """What tells these records from all others: one row, which a migration made. A copy of the records keeps it."""

    __tablename__ = "identity"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
