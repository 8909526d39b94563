"""Which architecture to train from scratch: foretold, then tried on the dataset."""

from dataclasses import replace

import pytest
import torch

from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt import recommend as module
from workers.adapt.data import Part, TaskData
from workers.adapt.knowledge import Knowledge
from workers.adapt.limits import Feasible, Limits
from workers.adapt.recommend import Tried, recommend
from workers.contracts.loss_model import ENTRIES, LossModel, TrialConfig, TrialFindings
from workers.training.budget import Budget

SPACE = SPACES["nas_bench_201"]
MACRO = Macro(num_channels=4, num_cells=1, num_classes=2, image_size=8)
DEEP_IS_GOOD = {"longest": -1.0, "shortest": 0.0, "log_params": 0.0, "log_macs": 0.0}


class Clock:
    """Goes on by a second at each look."""

    def __init__(self, step_s: float = 1.0) -> None:
        self.now_s, self._step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


@pytest.fixture
def data() -> TaskData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 2
    images = (100 * labels[:, None, None, None] + torch.randint(0, 100, (48, 8, 8, 3), generator=generator)).byte()
    part = Part(images=images, labels=labels)
    return TaskData(support=part.first(32), query=part, test=part.first(0), classes=("a", "b"))


@pytest.fixture
def knowledge(data: TaskData) -> Knowledge:
    return known(data, num_steps=3)


def known(data: TaskData, num_steps: int, **context: dict[str, float]) -> Knowledge:
    nothing = tuple((0.0,) * SPACE.num_options for _ in range(SPACE.num_decisions))
    model = LossModel(
        options=nothing, traits=DEEP_IS_GOOD, context=context, context_mean=dict.fromkeys(ENTRIES, 0.0), noise=0.1,
        log_evidence=0.0,
    )  # fmt: skip
    config = TrialConfig(num_steps=3, weights="fresh", length="steps", batch_size=8)
    return Knowledge.of(
        TrialFindings(config=config, num_trials=9, chooses=model), data, SPACE, MACRO, num_steps=num_steps
    )


def recommended(knowledge: Knowledge, data: TaskData, total_s: float, **options: object):
    told: list[Tried] = []
    feasible = Feasible(SPACE, MACRO, Limits())
    found = recommend(knowledge, data, feasible, Budget(total_s, Clock()), seed=0, on_tried=told.append, **options)
    assert found.tried == tuple(told)
    return found


def test_as_many_are_tried_as_fit_and_the_best_of_both_tellings_is_taken(knowledge: Knowledge, data: TaskData) -> None:
    few, many = recommended(knowledge, data, 20), recommended(knowledge, data, 60)
    assert 0 < len(few.tried) < len(many.tried)
    best = min(many.tried, key=lambda one: (one.foretold + one.measured) / 2)
    assert many.architecture == best.architecture
    assert {SPACE.depth(one.architecture).longest for one in many.tried} == {3}


def test_a_short_trial_corrects_what_is_foretold_of_the_long_training_by_what_it_shows_otherwise(
    data: TaskData,
) -> None:
    # A doubling of the steps makes each op on the longest way worth 1 more.
    knowledge = known(data, 48, training_steps={**dict.fromkeys(DEEP_IS_GOOD, 0.0), "longest": -1.0})
    found = recommended(knowledge, data, 40)
    assert len(found.tried) > 1
    for one in found.tried:
        longest = SPACE.depth(one.architecture).longest
        foretold_here = one.foretold + 4 * longest
        assert one.expected == pytest.approx(one.foretold + (one.measured - foretold_here) / 2)


def test_without_time_the_one_foretold_to_be_best_is_taken(knowledge: Knowledge, data: TaskData) -> None:
    found = recommended(knowledge, data, 2)
    assert found.tried == ()
    assert SPACE.depth(found.architecture).longest == 3


def test_the_same_seed_gives_the_same_recommendation(knowledge: Knowledge, data: TaskData) -> None:
    assert recommended(knowledge, data, 40) == recommended(knowledge, data, 40)


def test_side_by_side_the_same_is_measured(knowledge: Knowledge, data: TaskData) -> None:
    alone = recommended(knowledge, data, 1000)
    torch.set_num_threads(2)
    beside = recommended(knowledge, data, 1000)
    assert set(beside.tried) == set(alone.tried)
    assert beside.architecture == alone.architecture


def test_by_seconds_cheap_architectures_take_more_steps(knowledge: Knowledge, data: TaskData, monkeypatch) -> None:
    taken = []

    def note(network, *arguments, num_steps: int, **options) -> int:
        taken.append((num_steps, SPACE.cost(network.architecture, MACRO).macs))
        return num_steps

    monkeypatch.setattr(module, "train_briefly", note)
    config = knowledge.findings.config.model_copy(update={"length": "seconds", "num_steps": 100})
    knows_nothing = knowledge.findings.chooses.model_copy(update={"traits": dict.fromkeys(DEEP_IS_GOOD, 0.0)})
    findings = knowledge.findings.model_copy(update={"config": config, "chooses": knows_nothing})
    recommended(Knowledge.of(findings, data, SPACE, MACRO, num_steps=100), data, 200)
    assert len({steps for steps, _ in taken}) > 1
    by_cost = sorted(taken, key=lambda one: one[1])
    assert [steps for steps, _ in by_cost] == sorted((steps for steps, _ in taken), reverse=True)


def test_what_diverges_is_not_recommended(knowledge: Knowledge, data: TaskData, monkeypatch) -> None:
    judged = []

    def judge(network, *_) -> tuple[float, float]:
        judged.append(network.architecture)
        return (float("nan"), 1.0) if len(judged) == 1 else (1.0, 0.5)  # by its accuracy it would win

    monkeypatch.setattr(module, "judge", judge)
    found = recommended(knowledge, data, 40)
    assert found.tried
    assert judged[0] not in {found.architecture, *(one.architecture for one in found.tried)}


def test_what_is_tried_is_judged_on_held_out_images(knowledge: Knowledge, data: TaskData) -> None:
    turned = replace(data, query=Part(images=data.query.images, labels=1 - data.query.labels))
    pairs = list(zip(recommended(knowledge, data, 40).tried, recommended(knowledge, turned, 40).tried, strict=True))
    assert pairs
    for one, other in pairs:
        assert one.accuracy + other.accuracy == pytest.approx(1)
