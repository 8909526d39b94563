"""Datasets and priors of a suite, brought into its store as the service would: checked, by content. Free of torch."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from search_spaces.errors import InvalidOptionError, lookup
from workers.adapt.plan import check_request
from workers.bench.records import Order
from workers.bench.runs import Run
from workers.bench.suite import ArchitectureOf, DatasetSpec, Suite
from workers.bench.thinning import thinned
from workers.contracts.adaptations import NO_PRIOR
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import InvalidPriorError
from workers.contracts.priors import PriorCard
from workers.priors.registry import CARD, TENSORS, bundled_cards, bundled_default, parse_card
from workers.store import layout
from workers.store.protocol import Store
from workers.tasks.archive import run_check
from workers.tasks.limits import ArchiveLimits
from workers.tasks.sources import iterate_files, write_zip

# Of a prior's id that are kept, before the hash that tells it from its namesakes.
ID_CHARS: Final = 100


@dataclass(frozen=True, kw_only=True)
class StockedDataset:
    """A dataset in the store."""

    sha256: str
    report: DatasetReport


@dataclass(frozen=True, kw_only=True)
class Stock:
    """What the runs of a suite find in the store.

    Attributes:
        datasets: By name in the suite.
        priors: Cards by arm; None where the arm has no prior.
    """

    datasets: Mapping[str, StockedDataset]
    priors: Mapping[str, PriorCard | None]

    def order(self, suite: Suite, run: Run, *, architecture: str | None, threads: int) -> Order:
        """Return what a run is to do.

        Args:
            suite: Of the run.
            run: Wanted.
            architecture: That it is given; None where it is given none.
            threads: CPU threads of torch.
        """
        dataset, card = self.datasets[run.dataset], self.priors[run.arm]
        request = suite.arms[run.arm].request(
            seed=run.seed,
            budget_s=run.budget_s,
            prior=NO_PRIOR if card is None else card.id,
            architecture=architecture,
        )
        return Order(
            run=run,
            request=request,
            dataset_sha256=dataset.sha256,
            prior_sha256=None if card is None else hash_of(card),
            threads=threads,
        )


def stock(store: Store, suite: Suite, runs: list[Run], base: Path) -> Stock:
    """Bring what some runs need into the store, and return where it is.

    Args:
        store: Of the benchmark.
        suite: Of the runs.
        runs: That are wanted.
        base: Folder that the suite's paths begin at.

    Raises:
        InvalidOptionError: Nothing lies at a path.
        InvalidDatasetError: What lies there is no dataset.
        InvalidPriorError: A prior's folder is not whole.
        UnknownNameError: A prior is not bundled.
    """
    datasets = {run.dataset: suite.datasets[run.dataset] for run in runs}
    arms = {run.arm: suite.arms[run.arm] for run in runs}
    priors = {name: put_prior(store, arm.prior, arm.search_space, base) for name, arm in arms.items()}
    return Stock(datasets={name: put_dataset(store, spec, base) for name, spec in datasets.items()}, priors=priors)


def check(suite: Suite, runs: Iterable[Run], stocked: Stock) -> None:
    """Refuse what could not end well, before hours of other runs.

    Of an architecture that is still to be found, only the limits on all of its space are known.

    Raises:
        ArchPriorError: As `check_request`, for the first run that it refuses.
    """
    for run in runs:
        architecture = suite.arms[run.arm].architecture
        if isinstance(architecture, ArchitectureOf):
            request = stocked.order(suite, run, architecture=None, threads=1).request
            request = request.model_copy(update={"search": "random"})  # which ends with any of the space, too
        else:
            request = stocked.order(suite, run, architecture=architecture, threads=1).request
        check_request(request, stocked.datasets[run.dataset].report, stocked.priors[run.arm])


def put_dataset(store: Store, spec: DatasetSpec, base: Path) -> StockedDataset:
    """Bring a dataset into the store, thinned out as it is asked for, and return its hash and report."""
    source = base / spec.path
    if not source.exists():
        expected = "a zip of class folders, a folder of them, or a packed npz"
        raise InvalidOptionError("no such dataset", got=str(source), expected=expected)
    with TemporaryDirectory(prefix="archprior-") as scratch:
        path = source
        if source.is_dir() or source.suffix == ".npz" or spec.max_images is not None or not spec.keep_split:
            path = Path(scratch) / "archive.zip"
            _write(source, path, spec)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        key = layout.dataset_report(sha256)
        if store.size(key) is None:
            report = run_check(path, ArchiveLimits()).report
            store.put_file(layout.dataset_archive(sha256), path)
            store.put_bytes(key, report.model_dump_json().encode())
        return StockedDataset(sha256=sha256, report=DatasetReport.from_stored(store.get_bytes(key), key))


def put_prior(store: Store, prior: str | None, space: str, base: Path) -> PriorCard | None:
    """Return the card of an arm's prior; one of a folder is brought into the store under a name that card and
    tensors decide.

    Args:
        store: Of the benchmark.
        prior: Id of a bundled one, a folder, `none`, or None for the space's own.
        space: Name of the search space.
        base: Folder that paths begin at.
    """
    name = prior or bundled_default(space) or NO_PRIOR
    if name == NO_PRIOR:
        return None
    if "/" not in name:
        return lookup(bundled_cards(), name, kind="bundled prior")
    folder = base / name
    if not (folder / CARD).is_file() or not (folder / TENSORS).is_file():
        expected = f"a folder with {CARD} and {TENSORS}"
        todo = "Make it first, or leave out the arms that need it."
        raise InvalidOptionError("no prior in this folder", got=str(folder), expected=expected, todo=todo)
    card = parse_card((folder / CARD).read_bytes(), str(folder), any_id=True)
    data = (folder / TENSORS).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != card.sha256:
        raise InvalidPriorError(f"{folder / TENSORS} does not match its card", got=found, expected=card.sha256)
    named = card.model_copy(update={"id": f"{card.id[:ID_CHARS]}-{hash_of(card)[:12]}"})
    store.put_bytes(f"{layout.prior(named.id)}/{TENSORS}", data)
    store.put_bytes(f"{layout.prior(named.id)}/{CARD}", named.model_dump_json().encode())
    return named


def hash_of(card: PriorCard) -> str:
    """Return a hash of a prior: of its card, which has that of its tensors. A run depends on more than the tensors."""
    return hashlib.sha256(card.model_dump_json(exclude_defaults=True).encode()).hexdigest()


def _write(source: Path, out: Path, spec: DatasetSpec) -> None:
    if spec.max_images is None:
        write_zip(source, out, splits=spec.keep_split)
        return
    groups = [(file.split if spec.keep_split else None, file.class_name) for file in iterate_files(source)]
    write_zip(source, out, splits=spec.keep_split, wanted=thinned(groups, spec.max_images).__contains__)
