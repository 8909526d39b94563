"""The root of all errors raised on purpose: what is wrong, what was got, what was expected, what to do."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Self, TypeVar

Value = TypeVar("Value")


class ArchPriorError(Exception):
    """An error meant to be read by the person who can mend it. Survives pickling and JSON.

    Args:
        what: What is wrong, naming the thing; no final full stop.
        got: What was found, if saying it helps.
        expected: What would have been accepted.
        todo: What the reader can do about it; a sentence.
    """

    code: ClassVar[str] = "error"

    def __init__(self, what: str, *, got: object = None, expected: str = "", todo: str = "") -> None:
        self.what, self.got, self.expected, self.todo = what, got, expected, todo
        super().__init__(str(self))

    def __str__(self) -> str:
        text = self.what
        if self.got is not None:
            text += f": got {self.got!r}"
        if self.expected:
            text += f"; expected {self.expected}"
        return f"{text}. {self.todo}" if self.todo else text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.got, self.expected, self.todo)

    def to_dict(self) -> dict[str, str]:
        """Return the error as plain strings, for JSON."""
        got = "" if self.got is None else str(self.got)
        return {"code": self.code, "what": self.what, "got": got, "expected": self.expected, "todo": self.todo}

    @classmethod
    def from_dict(cls, fields: Mapping[str, str]) -> Self:
        """Return the error that `to_dict` wrote, as an instance of this class."""
        got = fields.get("got") or None
        return cls(fields["what"], got=got, expected=fields.get("expected", ""), todo=fields.get("todo", ""))


def _rebuild(kind: type[ArchPriorError], what: str, got: object, expected: str, todo: str) -> ArchPriorError:
    return kind(what, got=got, expected=expected, todo=todo)


class InvalidOptionError(ArchPriorError):
    """A configuration value or argument outside what is accepted."""

    code = "invalid_option"


class UnknownNameError(ArchPriorError):
    """A name that no registry entry bears; the message lists the known ones."""

    code = "unknown_name"


class InvalidArchitectureError(ArchPriorError):
    """An architecture that its search space cannot express, or a string form that cannot be read."""

    code = "invalid_architecture"


def lookup(registry: Mapping[str, Value], name: str, *, kind: str) -> Value:
    """Return `registry[name]`, or raise an error that lists the known names.

    Raises:
        UnknownNameError: `name` is not in the registry.
    """
    try:
        return registry[name]
    except KeyError:
        raise UnknownNameError(f"unknown {kind}", got=name, expected=f"one of {_listed(registry)}") from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none is registered"
