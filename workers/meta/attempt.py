"""One attempt of a meta-run: learn, try, judge, publish; or only judge, for a comparison."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from search_spaces.registry import SPACES
from workers.bayes.distributions import MetaPrior
from workers.contracts.loss_model import TrialFindings
from workers.contracts.meta_runs import MetaAttemptRequest, MetaControl, MetaManifest, MetaMetrics, PriorScore
from workers.meta.board import Patience
from workers.meta.coordinator import Coordinator
from workers.meta.crew import Crew, Handle
from workers.meta.elastic import Share
from workers.meta.finish import informed, versions
from workers.meta.flat import Flat, pack, unpack
from workers.meta.learning.data import learned_class_names
from workers.meta.learning.evaluation import NUM_TASKS
from workers.meta.learning.slot import without_heads
from workers.meta.publish import Result, publish, score
from workers.meta.rules import Learned, Rules
from workers.meta.trials.kept import KeptTrials
from workers.meta.trials.trial import Trial
from workers.meta.trying import Trying
from workers.meta.watch import Watch
from workers.priors.model import body_shapes, full_macro
from workers.priors.registry import PriorRegistry
from workers.priors.tensors import load_prior
from workers.store import layout
from workers.store.protocol import Store

NUM_CLASSES: Final = 2  # of a skeleton whose head nobody looks at


def stored_prior(store: Store, prior_id: str) -> MetaPrior:
    """Return the tensors of a bundled or stored prior.

    Raises:
        UnknownNameError: No prior bears that id.
        InvalidPriorError: Its tensors do not fit its card.
    """
    registry = PriorRegistry(store)
    card = registry.card(prior_id)
    macro = full_macro(card.macro, num_classes=NUM_CLASSES, image_size=max(card.resolutions))
    with tempfile.TemporaryDirectory(prefix="archprior-") as folder:
        path = registry.fetch(prior_id, Path(folder))
        return load_prior(path, SPACES[card.search_space], body_shapes(card.search_space, macro))


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What an attempt is made of.

    Attributes:
        store: For priors and results.
        key: Prefix of the attempt in it, without a final slash.
        request: What is asked.
        crew: Those who compute.
        watch: Told what people want to see.
        control: Returns what the service wants now.
        fetch: Returns what a handle stands for.
        flush: Has what was told written.
        share: What each worker takes.
        patience: With slow and hung workers.
    """

    store: Store
    key: str
    request: MetaAttemptRequest
    crew: Crew
    watch: Watch
    control: Callable[[], MetaControl]
    fetch: Callable[[Handle], Flat]
    flush: Callable[[], None]
    share: Share
    patience: Patience = field(default_factory=Patience)

    def run(self) -> MetaManifest:
        """Do what the request asks; return the manifest that was written last.

        Raises:
            ArchPriorError: See `Coordinator.learn`.
        """
        asked = self.request.request
        rules = Rules(
            config=asked.config,
            share=self.share,
            class_names=learned_class_names(self.request.datasets),
            max_workers=asked.max_workers,
            curve_tasks=NUM_TASKS,
            budget_s=None if asked.budget_s is None else max(0.0, asked.budget_s - self.request.spent_s),
            patience=self.patience,
        )
        coordinator = Coordinator(rules, self.crew, self.watch, self.control)
        self.watch.enter("loading", "starting workers and reading the datasets")
        result = self._compare(coordinator) if asked.kind == "compare" else self._learn(coordinator)
        return publish(self.store, self.request, self.key, result, before_manifest=self._end)

    def _end(self) -> None:
        """Tell all that is to be told: once there is a manifest, nobody looks any more."""
        self.watch.enter("done")
        self.flush()

    def _learn(self, coordinator: Coordinator) -> Result:
        asked = self.request.request
        learned = coordinator.learn()
        prior = without_heads(MetaPrior.from_arrays(unpack(self.fetch(learned.prior)))) if learned.version else None
        trials, findings = self._try_out(coordinator, learned)
        if prior is not None and findings is not None:
            prior = informed(prior, asked.config, findings)
        elif asked.config.trials is not None:
            learned = replace(learned, complete=False)
        prior_id = self.request.prior_id if learned.complete else f"{self.request.prior_id}-s{learned.version}"
        scores: tuple[PriorScore, ...] = ()
        # Who asks for a stop wants the workers' places soon.
        held_out = any(dataset.meta_validation for dataset in self.request.datasets)
        if prior is not None and held_out and self.control().desired != "stop":
            self.watch.enter("judging", "the new prior on held-out tasks")
            priors: dict[str, Handle] = {prior_id: pack(prior.to_arrays())}
            if asked.parent is not None:
                priors[asked.parent] = pack(stored_prior(self.store, asked.parent).to_arrays())
            scores = self._scores(coordinator, priors)
        self.watch.enter("publishing")
        metrics = self._metrics(prior_id if learned.version else None, learned, scores, num_trials=len(trials))
        entries = self.crew.log()[: learned.version]
        return Result(prior=prior, entries=entries, metrics=metrics, trials=trials, findings=findings)

    def _try_out(self, coordinator: Coordinator, learned: Learned) -> tuple[tuple[Trial, ...], TrialFindings | None]:
        """Return the trials that are made, and what they teach if they are all that were asked for."""
        config = self.request.request.config
        if config.trials is None or not learned.complete:
            return (), None
        kept = KeptTrials(self.store, layout.trials(self.request.meta_run_id), self.fetch(learned.prior))
        done = kept.read()
        self.watch.trying(len(done))
        trying = Trying(config, config.trials, learned.prior, done, kept.add)
        complete = coordinator.try_out(trying)
        return trying.trials, trying.findings() if complete else None

    def _compare(self, coordinator: Coordinator) -> Result:
        self.watch.enter("judging", "priors on the same held-out tasks")
        names = self.request.request.priors
        priors: dict[str, Handle] = {name: pack(stored_prior(self.store, name).to_arrays()) for name in names}
        scores = self._scores(coordinator, priors)
        self.watch.enter("publishing")
        metrics = self._metrics(None, Learned(version=0, complete=True, prior=None), scores)
        return Result(prior=None, entries=(), metrics=metrics)

    def _scores(self, coordinator: Coordinator, priors: dict[str, Handle]) -> tuple[PriorScore, ...]:
        judged = coordinator.judge(priors, self.request.request.num_tasks)
        return tuple(score(name, by_task) for name, by_task in judged.items())

    def _metrics(
        self, prior_id: str | None, learned: Learned, scores: tuple[PriorScore, ...], *, num_trials: int = 0
    ) -> MetaMetrics:
        return MetaMetrics(
            meta_run_id=self.request.meta_run_id,
            attempt=self.request.attempt,
            request=self.request.request,
            prior_id=prior_id,
            complete=learned.complete,
            num_steps=learned.version,
            num_trials=num_trials,
            scores=scores,
            counters=self.watch.counters,
            adjustments=self.watch.adjustments,
            data_wait=round(self.watch.data_wait, 4),
            seconds={phase: round(seconds, 2) for phase, seconds in self.watch.seconds().items()},
            datasets=self.request.datasets,
            versions=versions(),
        )
