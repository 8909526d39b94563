"""What code decides an arm's choice: all of this project that its process imports, so that none can be forgotten.

Imports are read, not carried out, wherever they stand in a file.
"""

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.machine import ROOT

# Every arm's process runs it.
PROCESS: Final = "benchmarks.nas_bench_201.one"
# Names all arms; of these an arm's process runs one.
ALL_ARMS: Final = "benchmarks.nas_bench_201.arms"


@cache
def digest_of(arm: Callable[..., object]) -> str:
    """Return the hash of the code that decides what an arm chooses."""
    digest = hashlib.sha256()
    for path in sorted(code_of(arm)):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_of(arm: Callable[..., object]) -> frozenset[Path]:
    """Return the files of the project that an arm's process imports, but those of other arms."""
    return imported_by(PROCESS, arm.__module__, but_through=ALL_ARMS)


def imported_by(*modules: str, but_through: str = "") -> frozenset[Path]:
    """Return the files of modules of the project and of all that they import of it, at first or second hand.

    Args:
        modules: Dotted names.
        but_through: Module whose own imports are not followed.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        path = _file_of(module)
        if path is None or module in found:
            continue
        found[module] = path
        waiting.append(module.rpartition(".")[0])  # a package is imported before what is in it
        if module != but_through:
            waiting += _imports_of(path)
    return frozenset(found.values())


def _imports_of(path: Path) -> Iterator[str]:
    """Yield the names of what a file imports; of `from a import b` both `a` and `a.b`, which may be a module."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> Path | None:
    """Return the file of a module of the project, or None where it is none."""
    place = ROOT.joinpath(*module.split("."))
    if not module or ROOT not in place.parents:
        return None
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
