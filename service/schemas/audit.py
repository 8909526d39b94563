"""What `/v1/audit` returns."""

from datetime import datetime

from workers.contracts.base import Contract


class AuditEntry(Contract):
    """A request that asked for a change.

    Attributes:
        action: Operation id of the route; `none` where the path leads nowhere.
        status: HTTP status of the answer.
    """

    at: datetime
    owner: str
    key_id: str | None
    request_id: str
    action: str
    path: str
    status: int


class AuditPage(Contract):
    """A part of the audit log, newest first."""

    items: tuple[AuditEntry, ...]
    next_cursor: str | None = None
