"""Errors of the service itself. `problems.py` maps them to HTTP statuses."""

from collections.abc import Iterable

from search_spaces.errors import ArchPriorError


class NotFoundError(ArchPriorError):
    """Nothing bears the id or name that a path holds."""

    code = "not_found"


class ConflictError(ArchPriorError):
    """The thing is in a state that does not allow what was asked."""

    code = "conflict"


class DatasetNotReadyError(ConflictError):
    """A dataset that arrives, is being checked, or was refused, where one is needed that can be used."""

    code = "dataset_not_ready"


class UploadExpiredError(ConflictError):
    """A dataset whose parts did not all arrive in time."""

    code = "upload_expired"


class InvalidBodyError(ArchPriorError):
    """A request body that cannot be read at all: broken JSON, a form without its end."""

    code = "invalid_body"


class UnsupportedMediaTypeError(ArchPriorError):
    """A request body of a kind that the route does not take."""

    code = "unsupported_media_type"


class TooLargeError(ArchPriorError):
    """A request body, or a part of one, over the limit."""

    code = "too_large"


class DiskFullError(ArchPriorError):
    """A disk of the service that has no room for what would be written there."""

    code = "disk_full"


class RangeNotSatisfiableError(ArchPriorError):
    """A `Range` header that asks for bytes beyond the end."""

    code = "range_not_satisfiable"


class InvalidRequestError(ArchPriorError):
    """A request that can be read, but whose fields cannot be accepted.

    Args:
        what: As for every error.
        findings: One line for each field that is wrong.
        todo: As for every error.
    """

    code = "invalid_request"

    def __init__(
        self, what: str, *, findings: Iterable[str] = (), got: object = None, expected: str = "", todo: str = ""
    ) -> None:
        self.findings = tuple(findings)
        super().__init__(what, got=got, expected=expected, todo=todo)


class IdempotencyKeyReusedError(ArchPriorError):
    """An `Idempotency-Key` that came with another request before."""

    code = "idempotency_key_reused"


class UnauthorizedError(ArchPriorError):
    """A request that needs a key and has no good one."""

    code = "unauthorized"


class ForbiddenError(ArchPriorError):
    """A request that its key does not allow."""

    code = "forbidden"


class HeadersTooLargeError(ArchPriorError):
    """A request whose headers are over the limit."""

    code = "headers_too_large"


class QuotaExceededError(ArchPriorError):
    """A request for more than its owner may have.

    Args:
        what: As for every error.
        retry_after_s: Seconds until it is worth asking again.
        got: As for every error.
        expected: As for every error.
        todo: As for every error.
    """

    code = "quota_exceeded"

    def __init__(
        self, what: str, *, retry_after_s: float = 60.0, got: object = None, expected: str = "", todo: str = ""
    ) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(what, got=got, expected=expected, todo=todo)


class DataDirBusyError(ArchPriorError):
    """Another service process has the data folder."""

    code = "data_dir_busy"


class ClusterUnavailableError(ArchPriorError):
    """Ray cannot be started, or does not answer."""

    code = "cluster_unavailable"


class InvalidAttemptFileError(ArchPriorError):
    """A file of an attempt that does not hold what it should."""

    code = "invalid_attempt_file"


class IllegalTransitionError(ArchPriorError):
    """A change of state that the transition table does not know."""

    code = "illegal_transition"
