"""An attempt leaves a prior that others can use, and says nothing but what it measured."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import UnknownNameError
from search_spaces.registry import SPACES
from workers.contracts.artifacts import MANIFEST
from workers.contracts.errors import StoreError, WorkersLostError
from workers.contracts.meta_runs import (
    DatasetChoice,
    MetaAttemptRequest,
    MetaControl,
    MetaDataset,
    MetaManifest,
    MetaMetrics,
    MetaRunRequest,
)
from workers.meta.attempt import Attempt, stored_prior
from workers.meta.board import Judgement, Patience, Tryout
from workers.meta.elastic import Share
from workers.meta.flat import unpack
from workers.meta.learning.slot import without_heads
from workers.meta.trials.campaign import TRIALS as TRIALS_FILE
from workers.meta.trials.findings import find
from workers.meta.trials.trial import Trial
from workers.priors.loss_model import option_logits
from workers.priors.model import full_macro
from workers.priors.registry import PriorRegistry
from workers.store import layout
from workers.store.folder import FolderStore

pytestmark = pytest.mark.usefixtures("small_judgements")

KEY = "meta-runs/mr_1/attempts/1"
LETTERS = MetaDataset(
    dataset_id="ds_1",
    name="letters",
    sha256="5" * 64,
    archive_key="a",
    report_key="r",
    terms="free",
    meta_train=tuple(f"class {label}" for label in range(6)),
    meta_validation=("d", "e"),
)


class Desk:
    """Runs attempts over one store."""

    def __init__(self, make_run: Callable[..., Any]) -> None:
        self._make_run = make_run
        self.store = make_run().store
        self.run: Any = None
        self.judged_prior: Any = None

    def attempt(self, *, prior_id: str = "p", held_out: bool = True, key: str = KEY, **changes: Any) -> Attempt:
        asked, rest = {}, {}
        for name, value in changes.items():
            (asked if name in MetaRunRequest.model_fields else rest)[name] = value
        run = self.run = self._make_run(folder="checkpoints of " + prior_id, held_out=held_out, **rest)
        judge = run.crew.judge

        def noted(worker: str, judgement: Judgement, *, prior: object) -> None:
            if judgement.subject == prior_id:
                self.judged_prior = prior
            judge(worker, judgement, prior=prior)

        run.crew.judge = noted
        request = MetaRunRequest.model_validate(
            {"datasets": (DatasetChoice(dataset_id="ds_1"),), "config": run.config, "num_tasks": 3, "max_workers": 2}
            | asked
        )
        return Attempt(
            store=self.store,
            key=key,
            request=MetaAttemptRequest(
                meta_run_id="mr_1", attempt=1, request=request, datasets=(LETTERS,), prior_id=prior_id
            ),
            crew=run.crew,
            watch=run.watch,
            control=lambda: run.control(),
            fetch=run.crew.fetch,
            flush=lambda: None,
            share=Share(cpus=1, gpus=0),
        )

    def clear(self, prefix: str) -> None:
        for item in list(self.store.list(prefix)):
            self.store.delete(item.key)

    def metrics(self, key: str = KEY) -> MetaMetrics:
        return MetaMetrics.model_validate_json(self.store.get_bytes(f"{key}/metrics.json"))


@pytest.fixture
def desk(make_run: Callable[..., Any]) -> Desk:
    return Desk(make_run)


TRIALS = {"num_tasks": 2, "num_archs": 3, "num_steps": 2, "batch_size": 8, "num_support": 24, "num_query": 12}


def trying_in(desk: Desk) -> list[str]:
    return [event.message for event in desk.run.told.all_events if event.kind == "tried"]


def test_trials_stand_on_the_card_and_beside_it_and_the_prior_that_they_inform_is_judged(desk: Desk) -> None:
    manifest = desk.attempt(trials=TRIALS).run()
    assert (manifest.prior_id, manifest.complete) == ("p", True)
    lines = desk.store.get_bytes(f"{KEY}/{TRIALS_FILE}").splitlines()
    trials = [Trial.model_validate_json(line) for line in lines]
    assert [(trial.task, trial.number) for trial in trials] == [(task, arch) for task in (0, 1) for arch in (0, 1, 2)]
    card = PriorRegistry(desk.store).card("p")
    assert card.trials == find(trials, desk.run.config)
    found = stored_prior(desk.store, "p")
    macro = full_macro(card.macro, num_classes=2, image_size=8)
    assert torch.equal(found.arch_logits, option_logits(card.trials.chooses, SPACES[card.search_space], macro))
    # What is judged is what is published: weights are only rounded there.
    judged = unpack(desk.judged_prior)
    assert torch.equal(judged["arch_logits"], found.arch_logits)
    assert len(desk.metrics().scores) == 1
    assert desk.metrics().num_trials == 6
    assert "6 trials, in `trials.jsonl`" in desk.store.get_bytes(f"{KEY}/report.md").decode()
    phases = [event.message.partition(":")[0] for event in desk.run.told.all_events if event.kind == "phase"]
    assert phases == ["loading", "learning", "trying", "judging", "publishing", "done"]
    assert len(trying_in(desk)) == 2


def test_trials_of_a_lost_job_are_not_made_again_and_come_to_the_same_prior(desk: Desk) -> None:
    desk.attempt(trials=TRIALS, prior_id="whole").run()
    whole = PriorRegistry(desk.store).card("whole")
    desk.clear(layout.trials("mr_1"))
    attempt = replace(desk.attempt(trials=TRIALS), patience=Patience(max_losses=1))
    desk.run.crew.try_fate = lambda worker, tryout, before: "dies" if tryout == Tryout(1, 1) else "fine"
    with pytest.raises(WorkersLostError, match="architecture 1 on trial task 1"):
        attempt.run()
    desk.attempt(trials=TRIALS).run()
    assert desk.run.crew.begun == [], "all steps were taken"
    made = [tryout for _, tryout in desk.run.crew.tryouts]
    assert Tryout(1, 1) in made
    assert not {Tryout(0, 0), Tryout(0, 1), Tryout(0, 2)} & set(made)
    card = PriorRegistry(desk.store).card("p")
    assert (card.trials, card.sha256) == (whole.trials, whole.sha256)


def test_a_run_stopped_among_its_trials_publishes_its_weights_and_a_resumed_one_makes_the_rest(desk: Desk) -> None:
    attempt = desk.attempt(trials=TRIALS)
    run = desk.run
    run.control = lambda: MetaControl(desired="stop" if len(run.crew.tryouts) > 2 else "run")
    manifest = attempt.run()
    assert (manifest.prior_id, manifest.step, manifest.complete) == ("p-s6", 6, False)
    card = PriorRegistry(desk.store).card("p-s6")
    assert (card.num_steps, card.trials) == (6, None)
    first = desk.metrics().num_trials
    assert 0 < first < 6
    assert f"{first} trials, in `trials.jsonl`: a resumed run" in desk.store.get_bytes(f"{KEY}/report.md").decode()
    assert desk.metrics().scores == ()
    manifest = desk.attempt(trials=TRIALS).run()
    assert (manifest.prior_id, manifest.complete) == ("p", True)
    assert len(desk.run.crew.tryouts) == 6 - first
    assert PriorRegistry(desk.store).card("p").trials.num_trials == 6


def test_a_run_stopped_while_it_learns_makes_no_trials(desk: Desk) -> None:
    attempt = desk.attempt(trials=TRIALS)
    run = desk.run
    run.control = lambda: MetaControl(desired="stop" if len(run.crew.pushed) >= 4 else "run")
    manifest = attempt.run()
    assert (manifest.prior_id, manifest.complete) == ("p-s2", False)
    assert run.crew.tryouts == []
    assert "trials.jsonl" not in {artifact.name for artifact in manifest.artifacts}


def test_trials_are_no_learning_that_a_budget_counts(desk: Desk) -> None:
    attempt = desk.attempt(trials=TRIALS, budget_s=60.0)
    desk.run.crew.slot_s = lambda worker, item: 50.0 if isinstance(item, Tryout) else 1.0
    assert attempt.run().complete
    assert desk.run.told.newest.elapsed_s < 60.0 < desk.metrics().seconds["trying"]


def test_a_finished_run_publishes_a_prior_that_the_registry_finds(desk: Desk, tmp_path: Path) -> None:
    manifest = desk.attempt().run()
    assert (manifest.prior_id, manifest.step, manifest.complete) == ("p", 6, True)
    card = PriorRegistry(desk.store).card("p")
    assert (card.num_steps, card.meta_run_id, card.parent) == (6, "mr_1", None)
    assert [(data.name, data.sha256, data.classes) for data in card.data] == [("letters", "5" * 64, LETTERS.meta_train)]
    assert card.config == desk.run.config.model_dump(mode="json")
    found = stored_prior(desk.store, "p").to_arrays()
    server_prior = without_heads(desk.run.crew.server._state.prior_with_heads).to_arrays()
    assert found.keys() == server_prior.keys()
    # Weights are stored in half precision.
    assert all(torch.allclose(found[name], server_prior[name], rtol=1e-3, atol=1e-6) for name in found)
    # The last point of the curves is there, too.
    assert [step for step, _ in card.curves["held-out accuracy after 0 steps"]] == [3, 6]
    phases = [event.message.partition(":")[0] for event in desk.run.told.all_events if event.kind == "phase"]
    assert phases == ["loading", "learning", "judging", "publishing", "done"]


def test_the_manifest_lists_what_is_there_by_size_and_hash(desk: Desk) -> None:
    manifest = desk.attempt().run()
    stored = MetaManifest.model_validate_json(desk.store.get_bytes(f"{KEY}/{MANIFEST}"))
    assert stored == manifest
    names = {artifact.name for artifact in manifest.artifacts}
    assert names == {
        *("metrics.json", "report.md", "log.jsonl", "scores.svg", "curves.svg", "card.json", "prior.safetensors")
    }
    for artifact in manifest.artifacts:
        data = desk.store.get_bytes(f"{KEY}/{artifact.name}")
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.num_bytes, artifact.sha256)
    steps = [json.loads(line)["step"] for line in desk.store.get_bytes(f"{KEY}/log.jsonl").decode().splitlines()]
    assert steps == list(range(6))


def test_a_manifest_is_written_after_everything_else_and_a_card_after_its_tensors(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    publish = FolderStore._publish

    def noted(store: FolderStore, partial: Path, path: Path) -> None:
        keys.append(path.relative_to(store._root).as_posix())
        publish(store, partial, path)

    monkeypatch.setattr(FolderStore, "_publish", noted)
    desk.attempt().run()
    written = [key for key in keys if not key.startswith("checkpoints/")]
    assert written[-1] == f"{KEY}/{MANIFEST}"
    assert written[:3] == ["priors/p/prior.safetensors", "priors/p/curves.svg", "priors/p/card.json"]


def test_a_store_that_fails_while_publishing_leaves_no_manifest(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = FolderStore._publish

    def broken(store: FolderStore, partial: Path, path: Path) -> None:
        if path.name == "report.md":
            raise StoreError("the store is full", got=path.name)
        publish(store, partial, path)

    monkeypatch.setattr(FolderStore, "_publish", broken)
    with pytest.raises(StoreError):
        desk.attempt().run()
    assert desk.store.size(f"{KEY}/{MANIFEST}") is None


def test_every_number_of_the_report_is_in_the_metrics(desk: Desk) -> None:
    attempt = desk.attempt()
    desk.run.crew.fate = lambda worker, slot, divisor, before: "out of memory" if divisor == 1 else "fine"
    attempt.run()
    metrics = desk.metrics()
    report = desk.store.get_bytes(f"{KEY}/report.md").decode()
    (score,) = metrics.scores
    known = {"95", "1", str(metrics.num_steps), f"{100 * metrics.data_wait:.1f}", str(metrics.request.num_tasks)}
    known |= {f"{100 * value:.1f}" for value in (*score.accuracy.values(), *score.interval.values())}
    known |= {str(steps) for steps in score.accuracy}
    known |= {f"{seconds:.1f}" for seconds in metrics.seconds.values()}
    known |= {str(len(classes)) for classes in (LETTERS.meta_train, LETTERS.meta_validation, LETTERS.meta_test)}
    known |= {str(value) for value in metrics.counters.model_dump().values()}
    (change,) = metrics.adjustments
    known |= {str(change.step), str(change.value), *re.findall(r"\d+", change.why)}
    # Names that hold digits are no numbers: ids, hashes, the architecture's string.
    text = re.sub(r"`[^`]*`|mr_1", "", report)
    assert set(re.findall(r"\d+(?:\.\d+)?", text)) <= known
    assert "batch_divisor 2" in report
    assert PriorRegistry(desk.store).card("p").adjustments


def test_a_stopped_run_publishes_under_the_name_of_its_steps_unjudged(desk: Desk) -> None:
    attempt = desk.attempt()
    run = desk.run
    run.control = lambda: MetaControl(desired="stop" if len(run.crew.pushed) >= 4 else "run")
    manifest = attempt.run()
    assert (manifest.prior_id, manifest.step, manifest.complete) == ("p-s2", 2, False)
    assert PriorRegistry(desk.store).card("p-s2").num_steps == 2
    assert desk.metrics().scores == ()
    report = desk.store.get_bytes(f"{KEY}/report.md").decode()
    assert "2 steps, ended early" in report
    assert "No classes were held out" not in report


def test_a_run_stopped_before_its_first_step_publishes_no_prior(desk: Desk) -> None:
    attempt = desk.attempt()
    desk.run.control = lambda: MetaControl(desired="stop")
    manifest = attempt.run()
    assert (manifest.prior_id, manifest.step, manifest.complete) == (None, 0, False)
    assert {artifact.name for artifact in manifest.artifacts} == {"metrics.json", "report.md"}
    assert list(desk.store.list("priors/")) == []
    assert "# No prior" in desk.store.get_bytes(f"{KEY}/report.md").decode()


def test_a_spent_budget_leaves_what_the_earlier_attempts_learned(desk: Desk) -> None:
    attempt = desk.attempt(budget_s=60.0)
    spent = attempt.request.model_copy(update={"spent_s": 60.0})
    object.__setattr__(attempt, "request", spent)
    manifest = attempt.run()
    assert (manifest.prior_id, manifest.step) == (None, 0)


def test_a_new_prior_is_judged_beside_its_parent_on_the_same_tasks(desk: Desk) -> None:
    desk.attempt(prior_id="first").run()
    desk.attempt(prior_id="second", parent="first", seed=1).run()
    scores = desk.metrics().scores
    assert [score.prior_id for score in scores] == ["second", "first"]
    assert all(len(tasks) == 3 for score in scores for tasks in score.tasks.values())
    card = PriorRegistry(desk.store).card("second")
    assert card.parent == "first"
    assert card.data == PriorRegistry(desk.store).card("first").data


def test_a_parent_that_is_not_there_is_told_with_the_known_ones(desk: Desk) -> None:
    with pytest.raises(UnknownNameError, match="nas_bench_201-v4"):
        desk.attempt(parent="ghost").run()


def test_a_comparison_judges_priors_on_the_same_tasks_and_publishes_none(desk: Desk) -> None:
    desk.attempt(prior_id="one").run()
    desk.attempt(prior_id="same").run()
    desk.attempt(prior_id="other", seed=4).run()
    before = {item.key for item in desk.store.list("priors/")}
    key = "meta-runs/mr_2/attempts/1"
    manifest = desk.attempt(kind="compare", priors=("one", "same", "other"), num_tasks=4, key=key).run()
    assert (manifest.prior_id, manifest.complete) == (None, True)
    assert {artifact.name for artifact in manifest.artifacts} == {"metrics.json", "report.md", "scores.svg"}
    one, same, other = desk.metrics(key).scores
    assert [len(tasks) for tasks in one.tasks.values()] == [4, 4]
    assert (one.tasks, one.accuracy, one.interval) == (same.tasks, same.accuracy, same.interval)
    assert other.tasks != one.tasks
    assert {item.key for item in desk.store.list("priors/")} == before
    assert "# Comparison of 3 priors" in desk.store.get_bytes(f"{key}/report.md").decode()
    # Who compares learns nothing.
    assert (desk.run.crew.begun, desk.run.crew.num_servers) == ([], 0)
