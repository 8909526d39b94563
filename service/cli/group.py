"""Commands that belong together, under one word."""

from collections.abc import Callable, Mapping

import typer

from service.cli.errors import with_readable_errors


def group(
    summary: str, commands: Mapping[str, Callable[..., None]], *, bare: Callable[..., None] | None = None
) -> typer.Typer:
    """Return a group of commands, each with readable errors.

    Args:
        summary: What the group is about, for its help.
        commands: By name.
        bare: Called where no command follows the group's name, and before each command; absent: the help is shown.
    """
    made = typer.Typer(help=summary, no_args_is_help=bare is None, invoke_without_command=bare is not None)
    if bare is not None:
        made.callback()(with_readable_errors(bare))
    for name, command in commands.items():
        made.command(name)(with_readable_errors(command))
    return made
