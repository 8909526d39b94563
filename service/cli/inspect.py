"""`archprior inspect`: how an architecture looks and what a network of it costs. Needs no service and no torch."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, InvalidOptionError, lookup
from search_spaces.registry import SPACES
from search_spaces.spec import Macro, SearchSpace, Skeleton
from service.cli.options import JsonOption
from service.cli.output import print_json, stdout, table

BENCHMARKS: Final[Mapping[Skeleton, Mapping[str, int]]] = {
    "cifar": {"num_classes": 10, "image_size": 32},
    "imagenet": {"num_classes": 1000, "image_size": 224},
}
"""Of the dataset that each skeleton is named for."""
FORMS: Final = 'an object such as {"space": "nas_bench_201", "arch": "|...|+|...|+|...|"}, or a string form'
LARGEST_FILE_BYTES: Final = 1_000_000


def inspect(
    architecture: Annotated[
        str,
        typer.Argument(metavar="ARCHITECTURE", help="A JSON file, or an architecture's string or JSON form itself."),
    ],
    macro: Annotated[Skeleton, typer.Option(help="The skeleton around the cells.")] = "cifar",
    channels: Annotated[
        int | None, typer.Option(help="Channels of the first cells; by the space if absent.", show_default=False)
    ] = None,
    cells: Annotated[
        int | None, typer.Option(help="Cells, counted as the space does; by the space if absent.", show_default=False)
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Classes; 10 for cifar, 1000 for imagenet if absent.", show_default=False)
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels; 32 for cifar, 224 for imagenet if absent.", show_default=False)
    ] = None,
    auxiliary: Annotated[
        bool, typer.Option("--auxiliary", help="With the auxiliary head; never part of the cost.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the cell to this file, too.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw an architecture, and count the parameters and MACs of a network of it."""
    space, found = _read(architecture)
    given = {"num_classes": classes, "image_size": image_size, "num_channels": channels, "num_cells": cells}
    skeleton = _macro(space, macro, given=given, auxiliary=auxiliary)
    cost = space.cost(found, skeleton)
    if svg is not None:
        svg.write_text(space.draw_svg(found))
    if as_json:
        print_json(
            {
                "params": cost.params,
                "macs": cost.macs,
                "architecture": space.to_json(found),
                "macro": dataclasses.asdict(skeleton),
            }
        )
        return
    console = stdout()
    console.print(f"{space.title}\n{space.format(found)}\n", markup=False, soft_wrap=True)
    console.print(f"{space.draw_text(found)}\n", markup=False, soft_wrap=True)
    facts = table("", "")
    facts.show_header = False
    facts.add_row("parameters", f"{cost.params:,}")
    facts.add_row("MACs", f"{cost.macs:,} for one image")
    facts.add_row(
        "skeleton",
        f"{skeleton.skeleton}, {skeleton.num_channels} channels, {skeleton.num_cells} cells, "
        f"{skeleton.num_classes} classes, {skeleton.image_size} pixels",
    )
    console.print(facts)


def _macro(space: SearchSpace, skeleton: Skeleton, *, given: Mapping[str, int | None], auxiliary: bool) -> Macro:
    """Return the space's own macro with what was given put in place."""
    benchmark = BENCHMARKS[skeleton]
    known = {name: value for name, value in given.items() if value is not None}
    default = space.default_macro(**{**benchmark, **{name: known[name] for name in benchmark if name in known}})
    return dataclasses.replace(default, skeleton=skeleton, auxiliary=auxiliary, **known)


def _read(argument: str) -> tuple[SearchSpace, Architecture]:
    text = argument.strip()
    if os.path.isfile(argument):
        text = _text_of(Path(argument)).strip()
    elif text.endswith(".json"):
        raise InvalidOptionError("no such file", got=argument)
    document = _document(text)
    if isinstance(document, dict):
        space = lookup(SPACES, str(document.get("space", "")), kind="search space")
        return space, space.parse(document)
    return _parsed_by_some_space(document)


def _text_of(path: Path) -> str:
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise InvalidArchitectureError(f"{path} is too large", expected=f"at most {LARGEST_FILE_BYTES:,} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArchitectureError(f"{path} is no text", expected="JSON, or a string form") from error


def _document(text: str) -> str | dict[str, object]:
    """Return JSON as what it holds, and anything that is not written like JSON as it is."""
    if not text.startswith(("{", "[", '"')):
        return text
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArchitectureError("the architecture is no JSON", got=str(error)) from error
    if not isinstance(document, str | dict):
        raise InvalidArchitectureError(
            "the architecture is the wrong JSON", got=type(document).__name__, expected=FORMS
        )
    return document


def _parsed_by_some_space(text: str) -> tuple[SearchSpace, Architecture]:
    findings = []
    for space in SPACES.values():
        try:
            return space, space.parse(text)
        except InvalidArchitectureError as error:
            findings.append(f"As {space.name}: {str(error).rstrip('.')}.")
    raise InvalidArchitectureError("no search space reads this architecture", got=text, todo=" ".join(findings))
