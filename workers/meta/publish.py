"""What an attempt leaves: a prior in the registry, numbers, a report with pictures, a manifest last."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Final

from workers.bayes.distributions import MetaPrior
from workers.contracts.artifacts import MANIFEST, Artifact
from workers.contracts.errors import InvalidPriorError, ObjectMissingError
from workers.contracts.loss_model import TrialFindings
from workers.contracts.meta_runs import MetaAttemptRequest, MetaManifest, MetaMetrics, PriorScore
from workers.contracts.priors import LearnedFrom, PriorCard
from workers.meta.finish import CURVES, Origin, write_prior
from workers.meta.learning.log import StepEntry, log_lines
from workers.meta.report import draw_scores, write_report
from workers.meta.trials.campaign import TRIALS, trial_line
from workers.meta.trials.trial import Trial
from workers.priors.registry import CARD, TENSORS, PriorRegistry, parse_card
from workers.store import layout
from workers.store.protocol import Store

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "metrics.json": "application/json",
    "report.md": "text/markdown; charset=utf-8",
    "log.jsonl": "application/jsonl",
    TRIALS: "application/jsonl",
    "scores.svg": "image/svg+xml",
    CURVES: "image/svg+xml",
    CARD: "application/json",
    TENSORS: "application/octet-stream",
}
# Two-sided 95 %, by the normal distribution: a little narrow below 20 tasks.
Z_95: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What there is to publish.

    Attributes:
        prior: That was learned, without the persistent heads; None: nothing was.
        entries: Of the log, one a step.
        metrics: Every number of the report.
        trials: All that were made, by task and number.
        findings: What they teach; None: none were to be made, or not all of them are.
    """

    prior: MetaPrior | None
    entries: Sequence[StepEntry]
    metrics: MetaMetrics
    trials: Sequence[Trial] = ()
    findings: TrialFindings | None = None


def score(prior_id: str, by_task: Mapping[int, Mapping[int, float]]) -> PriorScore:
    """Return the mean accuracy of a prior over held-out tasks, with the half width of its 95 % interval.

    Args:
        prior_id: Of the prior.
        by_task: Accuracy by task and by number of inner steps.
    """
    tasks = {steps: tuple(by_task[number][steps] for number in sorted(by_task)) for steps in by_task[0]}
    half = {steps: Z_95 * stdev(found) / sqrt(len(found)) if len(found) > 1 else 1.0 for steps, found in tasks.items()}
    mean = {steps: fmean(found) for steps, found in tasks.items()}
    return PriorScore(prior_id=prior_id, accuracy=mean, interval=half, tasks=tasks)


def publish(
    store: Store,
    attempt: MetaAttemptRequest,
    attempt_key: str,
    result: Result,
    *,
    before_manifest: Callable[[], None],
) -> MetaManifest:
    """Put the prior under `priors/`, its card last, then the artifacts, then the manifest; return that.

    Args:
        store: To put it into.
        attempt: What was asked.
        attempt_key: Prefix of the attempt, without a final slash.
        result: What there is.
        before_manifest: Called when all but the manifest is there.

    Raises:
        InvalidPriorError: Another run, or an import, has put a prior of that name there.
        UnknownNameError: The prior that it began from is gone.
        StoreError: The store does not take it.
    """
    metrics = result.metrics
    with tempfile.TemporaryDirectory(prefix="archprior-publish-") as made:
        folder = Path(made)
        card = None
        if result.prior is not None and metrics.prior_id is not None:
            origin = _origin(store, attempt, metrics)
            config = attempt.request.config
            card = write_prior(
                result.prior,
                config,
                result.entries,
                folder,
                prior_id=metrics.prior_id,
                origin=origin,
                trials=result.findings,
            )
            metrics = metrics.model_copy(update={"series": card.curves})
            (folder / "log.jsonl").write_text(log_lines(result.entries), encoding="utf-8")
        if result.trials:
            (folder / TRIALS).write_text("".join(map(trial_line, result.trials)), encoding="utf-8")
        (folder / "metrics.json").write_text(metrics.model_dump_json(indent=1), encoding="utf-8")
        if metrics.scores:
            (folder / "scores.svg").write_text(draw_scores(metrics.scores), encoding="utf-8")
        (folder / "report.md").write_text(write_report(metrics, card), encoding="utf-8")
        if card is not None:
            _put_prior(store, card, folder)
        artifacts = tuple(_put(store, attempt_key, folder / name) for name in MEDIA_TYPES if (folder / name).exists())
    manifest = MetaManifest(
        meta_run_id=attempt.meta_run_id,
        attempt=attempt.attempt,
        prior_id=None if card is None else card.id,
        step=metrics.num_steps,
        complete=metrics.complete,
        artifacts=artifacts,
    )
    before_manifest()
    store.put_bytes(f"{attempt_key}/{MANIFEST}", manifest.model_dump_json().encode(), media_type="application/json")
    return manifest


def _origin(store: Store, attempt: MetaAttemptRequest, metrics: MetaMetrics) -> Origin:
    parent = attempt.request.parent
    return Origin(
        command=f"POST /v1/meta-runs {attempt.request.model_dump_json(exclude_defaults=True)}",
        data=tuple(
            LearnedFrom(name=dataset.name, sha256=dataset.sha256, terms=dataset.terms, classes=dataset.meta_train)
            for dataset in attempt.datasets
            if dataset.meta_train
        ),
        parent=parent,
        parent_data=() if parent is None else PriorRegistry(store).card(parent).data,
        meta_run_id=attempt.meta_run_id,
        adjustments=tuple(
            f"{change.what} {change.value} from step {change.step} on: {change.why}" for change in metrics.adjustments
        ),
    )


def _put_prior(store: Store, card: PriorCard, folder: Path) -> None:
    _refuse_anothers(store, card)
    for name in (TENSORS, CURVES, CARD):  # the card makes it a prior
        key = f"{layout.prior(card.id)}/{name}"
        store.put_file(key, folder / name, media_type=MEDIA_TYPES[name])


def _refuse_anothers(store: Store, card: PriorCard) -> None:
    """Raise `InvalidPriorError` where the name belongs to a prior that this run has not made."""
    try:
        there = parse_card(store.get_bytes(f"{layout.prior(card.id)}/{CARD}"), card.id)
    except ObjectMissingError:
        return
    if there.meta_run_id != card.meta_run_id:
        raise InvalidPriorError(
            f"there is another prior of the name {card.id} already",
            todo="Delete that one, or begin another run with a prior_id of its own; the checkpoints stay.",
        )


def _put(store: Store, attempt_key: str, path: Path) -> Artifact:
    data = path.read_bytes()
    media_type = MEDIA_TYPES[path.name]
    store.put_file(f"{attempt_key}/{path.name}", path, media_type=media_type)
    return Artifact(name=path.name, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), media_type=media_type)
