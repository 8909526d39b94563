"""What a client may meet: a service that refuses, one that cannot be reached, bytes that are not what was promised."""

import json
from http import HTTPStatus

from pydantic import ValidationError

from search_spaces.errors import ArchPriorError
from service.schemas import Problem


class ServiceError(ArchPriorError):
    """The service answered with a problem.

    Args:
        problem: What it said, `problem.status` being the HTTP status.
    """

    code = "service_error"

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        # The service's own errors end their detail with the advice, and may begin it with the title.
        detail = problem.detail.removesuffix(problem.todo).rstrip(". ")
        title = "" if detail.startswith(problem.title) else problem.title
        super().__init__(": ".join(part for part in (title, detail) if part), todo=problem.todo)

    def __str__(self) -> str:
        return "\n  - ".join((super().__str__(), *self.problem.errors))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problem,)

    def to_dict(self) -> dict[str, str]:
        return {**super().to_dict(), "code": self.problem.code}


class ServiceUnreachableError(ArchPriorError):
    """No answer came: nothing listens there, the connection broke, or the time was up."""

    code = "service_unreachable"


class BadDownloadError(ArchPriorError):
    """A downloaded artifact whose bytes are not those of the manifest; nothing was kept."""

    code = "bad_download"


def problem_of(status: int, body: bytes) -> Problem:
    """Return the problem that an error answer holds, whoever wrote it: the service, or a proxy in front of it.

    Args:
        status: HTTP status of the answer.
        body: Its whole body; need not be JSON.
    """
    try:
        found = json.loads(body)
        if isinstance(found, dict):
            known = {name: value for name, value in found.items() if name in Problem.model_fields}
            return Problem.model_validate({**known, "status": status})
    except (ValueError, ValidationError):
        pass  # no problem document: the answer is described by its status and the beginning of its text
    title = HTTPStatus(status).phrase if status in set(HTTPStatus) else "the service refused"
    return Problem(
        title=title, status=status, detail=body[:500].decode(errors="replace").strip(), code=f"http_{status}"
    )
