"""`archprior adapt`: from a dataset to a network, by a running service or by one started for this call."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from pydantic import ValidationError

from search_spaces.errors import InvalidOptionError
from service.cli.dataset_uploads import upload
from service.cli.embedded import data_folder, embedded_service
from service.cli.errors import as_invalid_option
from service.cli.inputs import as_archive, named_prior
from service.cli.interrupts import interruptible
from service.cli.options import DataDirOption, JsonOption, ServerOption
from service.cli.outcome import as_document, fetch, require_success, tell
from service.cli.output import print_json, stdout
from service.cli.progress import Display, display
from service.client import Client, ServiceError, ServiceUnreachableError
from service.schemas import FINAL_STATES, AdaptationView
from workers.contracts.adaptations import AdaptationRequest, Search
from workers.priors.registry import CARD, TENSORS

DEFAULTS = AdaptationRequest()
CANCEL_TIMEOUT_S = 30.0
POLL_S = 0.5


def adapt(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A zip of class folders, a folder of them, a packed npz; or a dataset's id at --server.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the artifacts go; ./archprior-out/<id> if absent.", show_default=False),
    ] = None,
    server: ServerOption = None,
    data_dir: DataDirOption = None,
    search_space: Annotated[str, typer.Option(help="See `archprior spaces`.")] = DEFAULTS.search_space,
    prior: Annotated[
        str | None,
        typer.Option(
            help="Id of a prior, the folder of one, or 'none' for random weights; the space's own if absent.",
            show_default=False,
        ),
    ] = None,
    search: Annotated[
        Search | None,
        typer.Option(
            help="adapt: what promises most; supernet: search there in any case; or a baseline by the same code: "
            "the prior's mode, a random architecture, or the given one. adapt if absent, given with --architecture.",
            show_default=False,
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            help="Train this one, searching nothing: its string form, as `archprior inspect` prints it.",
            show_default=False,
        ),
    ] = None,
    budget_s: Annotated[
        float, typer.Option("--budget-s", "--budget", help="Seconds from staging to manifest.")
    ] = DEFAULTS.budget_s,
    max_params: Annotated[int | None, typer.Option(help="Most parameters.", show_default=False)] = None,
    max_macs: Annotated[int | None, typer.Option(help="Most MACs for one image.", show_default=False)] = None,
    resolution: Annotated[
        int | None,
        typer.Option(help="Side that images are resized to; by data and seconds if absent.", show_default=False),
    ] = None,
    num_channels: Annotated[
        int | None,
        typer.Option(help="Width of the network without a prior; a prior has its own.", show_default=False),
    ] = None,
    num_workers: Annotated[
        int, typer.Option(help="Workers of the Ray Train group; 0 trains in the job's process.")
    ] = DEFAULTS.num_workers,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = DEFAULTS.seed,
    name: Annotated[str | None, typer.Option(help="A name to find it again.", show_default=False)] = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Adapt a network to DATA: print its architecture, accuracy and cost, and fetch its files.

    Without --server a service is started on this machine for this one call, and ended with it.
    """
    own_prior = named_prior(prior)
    _check_combination(server, data_dir, out)
    try:
        request = AdaptationRequest(
            name=name, search_space=search_space, prior=None if own_prior else prior,
            search=search or ("given" if architecture else DEFAULTS.search), architecture=architecture,
            budget_s=budget_s, max_params=max_params, max_macs=max_macs, resolution=resolution,
            num_channels=num_channels, num_workers=num_workers, seed=seed,
        )  # fmt: skip
    except ValidationError as error:
        raise as_invalid_option("this cannot be asked for", error) from error
    with (
        interruptible(),
        display(quiet=quiet, only_on_terminal=as_json) as shown,
        TemporaryDirectory(prefix="archprior-") as scratch,
    ):
        shown.step("reading the dataset")
        archive = None if server is not None and not Path(data).exists() else as_archive(Path(data), Path(scratch))
        with _service(server, data_dir, shown) as client:
            dataset_id = data
            if archive is not None:
                shown.step(f"uploading {archive.name} ({archive.stat().st_size:,} bytes) and checking its images")
                dataset_id = upload(client, archive).id
            changes = {"dataset_id": dataset_id}
            if own_prior is not None:
                shown.step(f"handing in the prior of {own_prior}")
                changes["prior"] = client.import_prior(own_prior / CARD, own_prior / TENSORS).card.id
            view = client.create_adaptation(request.model_copy(update=changes))
            view = _follow(client, view, shown, cancel=server is None)
            result = require_success(view)
            paths = fetch(client, view, out or Path("archprior-out") / view.id)
        shown.step("done")
    if as_json:
        print_json(as_document(view, result, paths))
    else:
        tell(stdout(), view, result, paths)


def _check_combination(server: str | None, data_dir: Path | None, out: Path | None) -> None:
    if server is not None and data_dir is not None:
        raise InvalidOptionError("--data-dir is for a service of one's own", todo="Leave out --data-dir or --server.")
    if out is not None and out.exists() and not out.is_dir():
        raise InvalidOptionError("--out is no folder", got=str(out))


@contextmanager
def _service(server: str | None, data_dir: Path | None, shown: Display) -> Iterator[Client]:
    """Yield a client of a service that can take work."""
    if server is not None:
        with Client(server) as client:
            yield client
        return
    with data_folder(data_dir) as folder:
        shown.step("starting the service")
        with (
            embedded_service(folder, lambda reason: shown.step(f"starting the service ({reason})")) as url,
            Client(url) as client,
        ):
            yield client
            shown.step("stopping the service")


def _follow(client: Client, view: AdaptationView, shown: Display, *, cancel: bool) -> AdaptationView:
    """Return the adaptation once it has ended; on Ctrl-C cancel it, or say how it can be cancelled."""
    try:
        return client.wait(view.id, on_progress=shown.follow, poll_s=POLL_S)
    except KeyboardInterrupt:
        if cancel:
            shown.step("cancelling")
            _cancel(client, view.id)
        else:
            command = f"archprior cancel {view.id} --server {client.base_url}"
            typer.echo(f"\n{view.id} goes on without you; `{command}` ends it", err=True)
        raise


def _cancel(client: Client, adaptation_id: str) -> None:
    """Cancel, and give the job the time to end by itself; the service is ended afterwards in any case."""
    deadline = time.monotonic() + CANCEL_TIMEOUT_S
    with suppress(ServiceError, ServiceUnreachableError):
        client.cancel(adaptation_id)
        while client.adaptation(adaptation_id).state not in FINAL_STATES and time.monotonic() < deadline:
            time.sleep(POLL_S)
