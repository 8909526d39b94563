"""`archprior predict`: what images show, by a downloaded network. Needs no service and no torch."""

from pathlib import Path
from typing import Annotated

import typer

from search_spaces.errors import InvalidOptionError
from service.cli.options import JsonOption


def predict(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Folder of a finished adaptation, as `adapt --out` fills it.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option("--top", min=1, help="Labels for each image, the likeliest first.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Tell what images show, by the network of a bundle; the same as the `predict.py` that lies in it."""
    # Brings numpy, Pillow and ONNX Runtime, which no other command should wait for.
    from search_spaces.standalone.predict import UnusableError, run

    try:
        all_read = run(bundle, images, top=top, as_json=as_json)
    except UnusableError as error:
        raise InvalidOptionError(str(error)) from error
    if not all_read:
        raise typer.Exit(1)
