"""How every command fails: one readable error on stderr, an exit code, never a traceback."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer
from pydantic import ValidationError

from search_spaces.errors import ArchPriorError, InvalidArchitectureError, InvalidOptionError, UnknownNameError
from service.cli.output import print_json
from service.client import ServiceError
from service.schemas import Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

FAILED, BAD_INPUT = 1, 2
BAD_INPUTS = (InvalidArchitectureError, InvalidOptionError, UnknownNameError)


class EmbeddedServiceError(ArchPriorError):
    """The service that a command started for itself ended early, or did not come up."""

    code = "embedded_service"


def with_readable_errors(command: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Return the command with its errors told as text, and as JSON too where it takes `as_json` and got it."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        try:
            return command(*args, **kwargs)
        except ArchPriorError as error:
            failure = error
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)  # the shown progress has vanished, and all that was started has ended
            raise
        except BrokenPipeError:
            raise  # whoever read stdout has gone; typer ends quietly
        except OSError as error:
            failure = ArchPriorError(f"cannot use {error.filename or 'a file'}", got=error.strerror or str(error))
        typer.echo(f"error: {failure}", err=True)
        code = BAD_INPUT if isinstance(failure, BAD_INPUTS) else FAILED
        if kwargs.get("as_json"):
            print_json({"error": as_problem(failure, code)})
        raise typer.Exit(code)

    return run


def as_problem(error: ArchPriorError, exit_code: int) -> Problem:
    """Return an error in the form in which the service tells its own."""
    if isinstance(error, ServiceError):
        return error.problem
    status = 400 if exit_code == BAD_INPUT else 500
    return Problem(title=error.what, status=status, detail=str(error), code=error.code, todo=error.todo)


def as_flag(field: str) -> str:
    """Return a field's name as it is typed on the command line."""
    return f"--{field.replace('_', '-')}"


def as_invalid_option(
    what: str, error: ValidationError, *, spell: Callable[[str], str] = as_flag
) -> InvalidOptionError:
    """Return a schema's findings as one error that names each field as its user knows it, by `spell`."""
    findings = (_finding(found, spell) for found in error.errors())
    return InvalidOptionError(f"{what}: {'; '.join(findings)}")


def _finding(found: "ErrorDetails", spell: Callable[[str], str]) -> str:
    message = found["msg"].removeprefix("Value error, ")
    if not found["loc"]:  # of several fields together: the message names them
        return message
    return f"{spell('.'.join(map(str, found['loc'])))}: {message}, got {found['input']!r}"
