"""What an adaptation will do, decided before anything is trained. Free of torch: the service asks it too."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidOptionError, lookup
from search_spaces.registry import SPACES
from search_spaces.spec import Cost, Macro
from workers.contracts.adaptations import NO_PRIOR, AdaptationRequest, Plan
from workers.contracts.base import Precision
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import InvalidDatasetError, InvalidPriorError, LimitUnreachableError
from workers.contracts.priors import PriorCard

# Sides that the bundled priors' skeletons are made for, in pixels; what is chosen where none is asked for.
RESOLUTIONS: Final = (16, 24, 32, 48, 64)
# A larger side costs its square; below this budget images are shrunk to 32.
LONG_BUDGET_S: Final = 300.0
# Images of a step, of all workers together, but so many of each at least.
BATCH_SIZE: Final = 128
LEAST_BATCH_SIZE: Final = 64
# Of more pixels a side fewer images are passed at once: they take memory and time.
SIDE_OF_FULL_BATCHES: Final = 32
# More threads than this do not make a step on small images faster.
MAX_CPUS_PER_WORKER: Final = 4
# Shares of what is left after staging and export, where the choices are uniform; the surer a prior, the less.
SEARCH_SHARE: Final = 0.4
CHOICE_SHARE: Final = 0.15
# Of those seconds, for training the few best for a moment each, however sure the prior is: it is what tests it.
RACE_SHARE: Final = 0.3
NUM_FINALISTS: Final = 4
MIN_RACE_STEPS: Final = 8
MAX_RACE_EPOCHS: Final = 2
MAX_SEARCH_EPOCHS: Final = 20
# The final training ends after so many epochs, but not before so many steps where the seconds afford them: an epoch of
# a few images is a step.
MAX_TRAIN_EPOCHS: Final = 60
MIN_TRAIN_STEPS: Final = 120
# For the statistics of batch norm, of a candidate and of what is exported.
CALIBRATION_IMAGES: Final = 256
EXPORT_CALIBRATION_IMAGES: Final = 1024
# Images that the weights learn from between two steps on the choices.
CHOICE_EVERY: Final = 256
NUM_ARCH_SAMPLES: Final = 4
MAX_CANDIDATES: Final = 64
# Export, reload and upload, beside the passes over held-out and test images: of any network, and of each of its layers.
# Seconds: 42 exports of a network of NAS-Bench-201 with 46 layers took 2.8 to 5.0, passes included, 3.2 in the median;
# one of DARTS with 190 layers took 11.8 CPU seconds; the first in a new installation takes 5.9. Half of it is ONNX.
BASE_EXPORT_S: Final = 3.0
LAYER_EXPORT_S: Final = 0.055
# Decoded images stay in memory.
MAX_IMAGE_BYTES: Final = 4 * 2**30


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds that one unit of work takes here and now, measured.

    Attributes:
        search_step_s: One step on the weights along a drawn path.
        path_s: One drawn path, forward only, on a batch of held-out images.
        candidate_s: One candidate's recalibration and score on all held-out images.
        train_step_s: One step of the final training of a typical architecture.
        forward_s: One image, forward only, of a typical architecture.
        export_s: Export, reload and upload of a typical architecture.
    """

    search_step_s: float
    path_s: float
    candidate_s: float
    train_step_s: float
    forward_s: float
    export_s: float


@dataclass(frozen=True, kw_only=True)
class SplitSizes:
    """Numbers of images to learn from, to choose by, and to report on."""

    train: int
    query: int
    test: int


def check_request(request: AdaptationRequest, report: DatasetReport, card: PriorCard | None) -> None:
    """Refuse what cannot end well, by the rules that the job plans by.

    Args:
        request: What was asked; `request.prior` is resolved.
        report: The checked dataset.
        card: Of the prior, or None for `none`.

    Raises:
        UnknownNameError: No such search space.
        InvalidPriorError: The prior belongs to another search space, or has no weights to begin at.
        InvalidOptionError: The prior's mode is asked for without a prior; or `given` without an architecture, or an
            architecture without `given`; or the prior's weights have another width.
        InvalidArchitectureError: The given one cannot be read, or is not valid.
        LimitUnreachableError: No architecture is within the limits, or the given one is not; names the cost.
        InvalidDatasetError: So many images do not fit into memory at that resolution.
    """
    space = lookup(SPACES, request.search_space, kind="search space")
    if card is not None and card.search_space != space.name:
        raise InvalidPriorError(
            f"prior {card.id} belongs to search space {card.search_space}",
            got=space.name,
            expected=card.search_space,
            todo="Name a prior of this search space, or 'none'.",
        )
    if card is not None:
        card.require_weights()
        _check_width(request, card)
    if request.search == "prior_mode" and card is None:
        raise InvalidOptionError(
            "search 'prior_mode' without a prior",
            got=request.prior or NO_PRIOR,
            expected="a prior of this search space",
            todo="Name a prior, or search with 'adapt' or 'random'.",
        )
    given = given_architecture(request)
    macro = choose_macro(request, report, card)
    num_bytes = report.total_images * macro.image_size**2 * 3
    if num_bytes > MAX_IMAGE_BYTES:
        fits = math.isqrt(MAX_IMAGE_BYTES // (3 * report.total_images))
        raise InvalidDatasetError(
            f"{report.total_images} images of {macro.image_size} x {macro.image_size} pixels do not fit into memory",
            got=f"{num_bytes} bytes",
            expected=f"at most {MAX_IMAGE_BYTES}",
            todo=f"Ask for a resolution of {fits} or less, or post fewer images.",
        )
    check_limits(space.minimum_cost(macro), request)
    if given is not None:
        _check_given(space.cost(given, macro), request)


def _check_width(request: AdaptationRequest, card: PriorCard) -> None:
    if request.num_channels not in (None, card.macro.num_channels):
        raise InvalidOptionError(
            f"num_channels: the weights of prior {card.id} have another width",
            got=request.num_channels,
            expected=str(card.macro.num_channels),
            todo="Leave num_channels out, or begin without a prior ('none').",
        )


def given_architecture(request: AdaptationRequest) -> Architecture | None:
    """Return the architecture that a request names, or None where it names none.

    Raises:
        InvalidOptionError: `given` without an architecture, or an architecture without `given`.
        InvalidArchitectureError: The space cannot read it.
    """
    if (request.search == "given") != (request.architecture is not None):
        raise InvalidOptionError(
            "search 'given' goes with an architecture, and no other search does",
            got=f"search {request.search!r}, architecture {request.architecture!r}",
            expected="both or neither",
            todo="Name an architecture with 'given', or leave it out.",
        )
    if request.architecture is None:
        return None
    return lookup(SPACES, request.search_space, kind="search space").parse(request.architecture)


def takes_published(request: AdaptationRequest) -> bool:
    """Return whether the space's published architecture is trained, or what fits in its place: `adapt` has no prior.

    Args:
        request: What was asked; `prior` is resolved.
    """
    return request.search == "adapt" and (request.prior or NO_PRIOR) == NO_PRIOR


def check_limits(smallest: Cost, request: AdaptationRequest) -> None:
    """Raise `LimitUnreachableError` if even the smallest architecture exceeds a limit."""
    for name, limit, least in _exceeded(smallest, request):
        raise LimitUnreachableError(
            f"{name}: no architecture of {request.search_space} is that small for this dataset",
            got=limit,
            expected=f"at least {least}",
            todo=f"Raise {name} to {least} or more{smaller_side(name)}.",
        )


def _check_given(cost: Cost, request: AdaptationRequest) -> None:
    for name, limit, spent in _exceeded(cost, request):
        raise LimitUnreachableError(
            f"{name}: the given architecture costs more for this dataset",
            got=limit,
            expected=f"at least {spent}",
            todo=f"Raise {name} to {spent} or more, or give a smaller architecture{smaller_side(name)}.",
        )


def smaller_side(limit: str) -> str:
    """Return the way out that MACs have beside: limits are checked at the side that the data has."""
    return ", or ask for a smaller resolution" if limit == "max_macs" else ""


def _exceeded(cost: Cost, request: AdaptationRequest) -> Iterator[tuple[str, int, int]]:
    """Yield the limits that a cost exceeds: name, limit, cost."""
    for name, limit, spent in (
        ("max_params", request.max_params, cost.params),
        ("max_macs", request.max_macs, cost.macs),
    ):
        if limit is not None and limit < spent:
            yield name, limit, spent


def choose_resolution(request: AdaptationRequest, report: DatasetReport) -> int:
    """Return the side in pixels: as asked, or the smallest of RESOLUTIONS that keeps the median image's detail."""
    if request.resolution is not None:
        return request.resolution
    largest = RESOLUTIONS[-1] if request.budget_s >= LONG_BUDGET_S else 32
    fitting = [side for side in RESOLUTIONS if side >= report.median_size and side <= largest]
    return fitting[0] if fitting else largest


def choose_macro(request: AdaptationRequest, report: DatasetReport, card: PriorCard | None) -> Macro:
    """Return the skeleton of the network that will be searched and exported: the prior's own, where there is one."""
    space = lookup(SPACES, request.search_space, kind="search space")
    side = choose_resolution(request, report)
    num_classes = len(report.classes)
    if card is None:
        macro = space.default_macro(num_classes=num_classes, image_size=side)
        return replace(macro, num_channels=request.num_channels or macro.num_channels)
    return Macro(
        skeleton=card.macro.skeleton,
        num_channels=card.macro.num_channels,
        num_cells=card.macro.num_cells,
        num_classes=num_classes,
        image_size=side,
    )


def make_plan(
    request: AdaptationRequest,
    macro: Macro,
    sizes: SplitSizes,
    speed: Speed,
    *,
    remaining_s: float,
    flip: bool,
    precision: Precision,
    doubt: float,
    reads: bool,
) -> Plan:
    """Divide the seconds that are left among search, choice, race and final training.

    Args:
        request: What was asked, `prior` resolved.
        macro: From `choose_macro`.
        sizes: Of the split.
        speed: As measured.
        remaining_s: Seconds of the budget that are left.
        flip: Whether mirroring keeps labels.
        precision: Of the passes.
        doubt: Mean entropy of the prior's decisions in units of the uniform's, 0 to 1. Without a prior it is 1, and so
            it counts where the supernet is asked for.
        reads: Whether the prior's trials foretell who is good on this dataset: nothing is searched in the supernet.
    """
    export_s, free_s = _divided(macro, sizes, speed, remaining_s)
    steps_per_epoch = _steps_per_epoch(request, macro, sizes)
    of_each = batch_size(request, sizes.train, macro.image_size)
    choice_every = CHOICE_EVERY // max(LEAST_BATCH_SIZE, of_each)
    search_s = choice_s = 0.0
    num_search_steps = num_candidates = 0
    is_chosen = request.search in ("adapt", "supernet") and not takes_published(request)
    if is_chosen:
        shares = (0.0 if reads else SEARCH_SHARE, CHOICE_SHARE)
        doubt = 1.0 if request.search == "supernet" else doubt
        search_s, choice_s = (share * math.sqrt(doubt) * free_s for share in shares)
        one_step_s = speed.search_step_s + NUM_ARCH_SAMPLES * speed.path_s / choice_every
        num_search_steps = min(int(search_s / one_step_s), MAX_SEARCH_EPOCHS * steps_per_epoch)
        num_candidates = min(int(choice_s / speed.candidate_s), MAX_CANDIDATES)
        search_s, choice_s = num_search_steps * one_step_s, num_candidates * speed.candidate_s
    race_steps = 0
    if is_chosen:
        race_steps = int(RACE_SHARE * free_s / NUM_FINALISTS / speed.train_step_s)
        most = max(MIN_RACE_STEPS, MAX_RACE_EPOCHS * steps_per_epoch)
        race_steps = min(race_steps, most) if race_steps >= MIN_RACE_STEPS else 0
    race_s = NUM_FINALISTS * race_steps * speed.train_step_s
    train_s = max(0.0, free_s - search_s - choice_s - race_s)
    max_train_steps = _most_steps(request, macro, sizes)
    train_s = min(train_s, max_train_steps * speed.train_step_s)
    return Plan(
        search_space=request.search_space,
        prior=request.prior or NO_PRIOR,
        search=request.search,
        architecture=request.architecture,
        seed=request.seed,
        skeleton=macro.skeleton,
        num_channels=macro.num_channels,
        num_cells=macro.num_cells,
        num_classes=macro.num_classes,
        resolution=macro.image_size,
        num_train=sizes.train,
        num_query=sizes.query,
        num_test=sizes.test,
        num_workers=request.num_workers,
        batch_size=of_each,
        flip=flip,
        precision=precision,
        num_search_steps=num_search_steps,
        choice_every=choice_every,
        num_arch_samples=NUM_ARCH_SAMPLES,
        num_candidates=num_candidates,
        race_steps=race_steps,
        max_train_steps=max_train_steps,
        search_s=round(search_s, 3),
        choice_s=round(choice_s, 3),
        race_s=round(race_s, 3),
        train_s=round(train_s, 3),
        export_s=round(export_s, 3),
        max_params=request.max_params,
        max_macs=request.max_macs,
    )


def batch_size(request: AdaptationRequest, num_train: int, side: int) -> int:
    """Return of how many images one worker's step is, at least two.

    Args:
        request: What was asked.
        num_train: Images to learn from.
        side: In pixels, to learn at.
    """
    shared = BATCH_SIZE // max(1, request.num_workers) if side <= SIDE_OF_FULL_BATCHES else 0
    return min(max(LEAST_BATCH_SIZE, shared), max(2, num_train))


def affordable_images(
    request: AdaptationRequest, macro: Macro, sizes: SplitSizes, speed: Speed, remaining_s: float
) -> int:
    """Return how many images the final training would look at if nothing were searched: those of a step at least.

    Args:
        request: What was asked.
        macro: From `choose_macro`.
        sizes: Of the split.
        speed: As measured.
        remaining_s: Seconds of the budget that are left.
    """
    _, free_s = _divided(macro, sizes, speed, remaining_s)
    num_steps = max(1, min(int(free_s / speed.train_step_s), _most_steps(request, macro, sizes)))
    return num_steps * _images_per_step(request, macro, sizes)


def export_calibration_images(side: int) -> int:
    """Return of how many images at most, of a side in pixels, the exported network has its statistics."""
    return EXPORT_CALIBRATION_IMAGES if side <= SIDE_OF_FULL_BATCHES else CALIBRATION_IMAGES


def export_seconds(num_layers: int) -> float:
    """Return the seconds of export, reload and upload of a network with so many layers (`start.num_layers`)."""
    return BASE_EXPORT_S + LAYER_EXPORT_S * num_layers


def _divided(macro: Macro, sizes: SplitSizes, speed: Speed, remaining_s: float) -> tuple[float, float]:
    """Return the seconds of the export, with its passes over images, and what they leave."""
    num_passed = sizes.test + 2 * sizes.query + min(sizes.train, export_calibration_images(macro.image_size))
    export_s = speed.export_s + speed.forward_s * num_passed
    return export_s, max(0.0, remaining_s - export_s)


def _images_per_step(request: AdaptationRequest, macro: Macro, sizes: SplitSizes) -> int:
    return batch_size(request, sizes.train, macro.image_size) * max(1, request.num_workers)


def _steps_per_epoch(request: AdaptationRequest, macro: Macro, sizes: SplitSizes) -> int:
    return max(1, -(-sizes.train // _images_per_step(request, macro, sizes)))


def _most_steps(request: AdaptationRequest, macro: Macro, sizes: SplitSizes) -> int:
    return max(MIN_TRAIN_STEPS, MAX_TRAIN_EPOCHS * _steps_per_epoch(request, macro, sizes))
