"""The one error body, and the one table from errors to HTTP statuses."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from search_spaces.errors import (
    ArchPriorError,
    InvalidArchitectureError,
    InvalidOptionError,
    UnknownNameError,
)
from service.errors import (
    ClusterUnavailableError,
    ConflictError,
    DiskFullError,
    ForbiddenError,
    HeadersTooLargeError,
    IdempotencyKeyReusedError,
    InvalidAttemptFileError,
    InvalidBodyError,
    InvalidRequestError,
    NotFoundError,
    QuotaExceededError,
    RangeNotSatisfiableError,
    TooLargeError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from service.http.request_ids import REQUEST_ID_HEADER, request_id
from service.schemas import Problem
from workers.contracts.errors import (
    InvalidDatasetError,
    InvalidPriorError,
    LimitUnreachableError,
    ObjectMissingError,
    StoreError,
)
from workers.tasks.check_process import CheckKilledError

MEDIA_TYPE: Final = "application/problem+json"

# The most special class of an error that is listed counts; everything else raised on purpose is our fault.
STATUSES: Final[Mapping[type[ArchPriorError], HTTPStatus]] = {
    InvalidBodyError: HTTPStatus.BAD_REQUEST,
    UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ObjectMissingError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    RangeNotSatisfiableError: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyKeyReusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidOptionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnknownNameError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidArchitectureError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidDatasetError: HTTPStatus.UNPROCESSABLE_ENTITY,
    LimitUnreachableError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidPriorError: HTTPStatus.UNPROCESSABLE_ENTITY,
    QuotaExceededError: HTTPStatus.TOO_MANY_REQUESTS,
    HeadersTooLargeError: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    InvalidAttemptFileError: HTTPStatus.INTERNAL_SERVER_ERROR,
    DiskFullError: HTTPStatus.INSUFFICIENT_STORAGE,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    ClusterUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    CheckKilledError: HTTPStatus.SERVICE_UNAVAILABLE,
    ArchPriorError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

RETRY_AFTER_S: Final = "5"
"""Records, store and cluster that are away are looked for that often at least."""

logger = logging.getLogger(__name__)


def problem_of(error: ArchPriorError) -> Problem:
    """Return the problem that tells an error raised on purpose."""
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    got = "" if error.got is None else f"got {error.got}"
    expected = f"expected {error.expected}" if error.expected else ""
    return Problem(
        title=_sentence(error.what),
        status=status,
        detail=_sentence("; ".join(filter(None, (got, expected)))),
        code=error.code,
        todo=error.todo,
        errors=error.findings if isinstance(error, InvalidRequestError) else (),
    )


def response(description: str) -> dict[str, Any]:
    """Return what OpenAPI shall say of an answer that is a problem."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI shall say of a route's refusals."""
    return {int(status): response(status.phrase) for status in statuses}


def install(app: FastAPI) -> None:
    """Have every refusal and every failure of an app answered with a problem."""
    app.exception_handler(ArchPriorError)(_on_purpose)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(SQLAlchemyError)(_records_down)
    app.exception_handler(ClientDisconnect)(_gone)
    app.exception_handler(Exception)(_unexpected)


def answer_to(request: Request, error: ArchPriorError | SQLAlchemyError) -> Response:
    """Return the answer to a request that fails before it reaches the app's own handlers."""
    return _on_purpose(request, error) if isinstance(error, ArchPriorError) else _records_down(request, error)


def _on_purpose(request: Request, error: ArchPriorError) -> Response:
    problem = problem_of(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("request=%s %s %s: %s", request_id(request), request.method, request.url.path, error)
    return _answer(request, problem, headers=_headers(error))


def _headers(error: ArchPriorError) -> dict[str, str]:
    if isinstance(error, UnauthorizedError):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, QuotaExceededError):
        return {"Retry-After": str(math.ceil(error.retry_after_s))}
    return {}


def _invalid(request: Request, error: RequestValidationError) -> Response:
    findings = tuple(f"{'.'.join(map(str, found['loc'][1:]))}: {found['msg']}" for found in error.errors())
    return _answer(
        request,
        Problem(
            title="The request cannot be accepted",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            code=InvalidRequestError.code,
            todo="Correct these fields; /docs lists all there are.",
            errors=findings,
        ),
    )


def _http(request: Request, error: HTTPException) -> Response:
    if isinstance(error.__cause__, ArchPriorError):  # FastAPI says no more than 400 of what fails while it reads a body
        return _on_purpose(request, error.__cause__)
    status = HTTPStatus(error.status_code)
    code = status.name.lower()
    problem = Problem(title=status.phrase, status=status, detail=f"{request.method} {request.url.path}", code=code)
    return _answer(request, problem, headers=error.headers)


def _records_down(request: Request, error: SQLAlchemyError) -> Response:
    if isinstance(error, DataError):  # PostgreSQL's; SQLite holds anything
        return _answer(
            request,
            Problem(
                title="The records cannot hold a value of this request",
                status=HTTPStatus.UNPROCESSABLE_ENTITY,
                code=InvalidRequestError.code,
                todo="Leave out NUL characters, and numbers of more than 64 bits.",
            ),
        )
    logger.error("request=%s %s %s: %s", request_id(request), request.method, request.url.path, error)
    return _answer(
        request,
        Problem(
            title="The records cannot be reached",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
            code="records_unavailable",
            todo="Try again in a moment; /readyz says when they are back.",
        ),
    )


def _gone(request: Request, _: ClientDisconnect) -> Response:
    logger.info("request=%s %s %s: the client left", request_id(request), request.method, request.url.path)
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def _unexpected(request: Request, error: Exception) -> Response:
    number = request_id(request)
    logger.error("request=%s %s %s failed", number, request.method, request.url.path, exc_info=error)
    return _answer(
        request,
        Problem(
            title="The service has failed",
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            code="internal_error",
            todo=f"The service's log says more under request={number}.",
        ),
    )


def _answer(request: Request, problem: Problem, *, headers: Mapping[str, str] | None = None) -> Response:
    body = problem.model_copy(update={"instance": request.url.path}).model_dump_json()
    # Set here, too: an unexpected error is answered outside the middleware that sets it elsewhere.
    own = {REQUEST_ID_HEADER: request_id(request)}
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        own["Retry-After"] = RETRY_AFTER_S
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers={**(headers or {}), **own})


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
