"""`archprior datasets add` and `copy`: how datasets come to a running service."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from search_spaces.errors import InvalidOptionError
from service.cli.dataset_views import show_datasets
from service.cli.errors import as_invalid_option
from service.cli.inputs import as_archive
from service.cli.interrupts import interruptible
from service.cli.options import DEFAULT_SERVER, JsonOption, RunningServerOption
from service.cli.output import print_json, stderr
from service.cli.transfers import transfer
from service.client import Client, ServiceError, ServiceUnreachableError
from service.schemas import DatasetView

PARTS_ABOVE_BYTES: Final = 64 * 2**20
"""Larger archives are sent in parts, which can go on after an interruption."""

POLL_S: Final = 1.0
CHECKED: Final = "the service checks it"
LOST: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)})
"""With which the way to the service, or its store, may be closed for now."""

NameOption = Annotated[
    str | None, typer.Option(help="As people know it; the file's name if absent, without its ending.")
]
MetaUseOption = Annotated[bool, typer.Option("--meta-use", help="Meta-runs may learn from it.")]
TermsOption = Annotated[
    str | None, typer.Option(help="Under which its images stand, for the cards of priors that learn from it.")
]


def add(
    data: Annotated[
        Path, typer.Argument(metavar="PATH", help="A zip of class folders, a folder of them, or a packed npz.")
    ],
    name: NameOption = None,
    meta_use: MetaUseOption = False,
    terms: TermsOption = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Go on with an upload that was interrupted.", show_default=False),
    ] = None,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Upload a dataset; of one that was uploaded before, what is given changes and the rest stays.

    A large one is sent in parts: where that is interrupted, --resume sends those that are missing.
    """
    if resume is not None and (name is not None or meta_use or terms is not None):
        raise InvalidOptionError(
            "--resume goes on with what was said when the upload began",
            todo="Leave out --name, --meta-use and --terms; `archprior datasets allow` changes a dataset.",
        )
    with interruptible(), TemporaryDirectory(prefix="archprior-") as scratch, Client(server) as client:
        with stderr().status("reading the dataset"):
            archive = as_archive(data, Path(scratch))
        try:
            if resume is None and archive.stat().st_size <= PARTS_ABOVE_BYTES:
                with stderr().status("uploading and checking the dataset"):
                    view = client.create_dataset(archive, name=name, meta_use=meta_use or None, terms=terms)
            else:
                if resume is None:
                    begun = client.begin_upload(archive, name=name, meta_use=meta_use or None, terms=terms)
                    resume = begun.id
                with (
                    _resumable(f"archprior datasets add {shlex.quote(str(data))} --resume {resume} --server {server}"),
                    transfer(f"sending {archive.name}", then=CHECKED, only_on_terminal=as_json) as sent,
                ):
                    view = client.upload_dataset(archive, resume=resume, on_progress=sent, poll_s=POLL_S)
        except ValidationError as error:
            raise as_invalid_option("this dataset cannot be added", error) from error
    _tell(view, as_json=as_json)


def copy(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A zip of class folders in a bucket: s3://bucket/key.")
    ],
    name: NameOption = None,
    meta_use: MetaUseOption = False,
    terms: TermsOption = None,
    server: RunningServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Have the service copy a dataset from a bucket that its operator allows, and wait for the check."""
    with interruptible(), Client(server) as client:
        try:
            begun = client.copy_dataset(source, name=name, meta_use=meta_use or None, terms=terms)
        except ValidationError as error:
            raise as_invalid_option("this cannot be copied", error) from error
        try:
            with stderr().status(f"the service copies and checks {begun.id}"):
                view = client.wait_dataset(begun.id, poll_s=POLL_S)
        except KeyboardInterrupt:
            command = f"archprior datasets show {begun.id} --server {server}"
            typer.echo(f"\n{begun.id} is copied without you; `{command}` shows how far it is", err=True)
            raise
    _tell(view, as_json=as_json)


def upload(client: Client, archive: Path) -> DatasetView:
    """Return the dataset of an archive, sent in the way that suits its size, once it was checked."""
    if archive.stat().st_size <= PARTS_ABOVE_BYTES:
        return client.create_dataset(archive)
    return client.upload_dataset(archive, poll_s=POLL_S)


@contextmanager
def _resumable(command: str) -> Iterator[None]:
    """Where the block is interrupted or the service is lost, say which command goes on."""
    try:
        yield
    except (KeyboardInterrupt, ServiceError, ServiceUnreachableError) as error:
        if not isinstance(error, ServiceError) or error.problem.status in LOST:
            typer.echo(f"\nwhat was sent stays; this sends the rest:\n  {command}", err=True)
        raise


def _tell(view: DatasetView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        show_datasets((view,))
