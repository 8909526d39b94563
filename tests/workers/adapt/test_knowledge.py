"""What a prior's trials say on a dataset: read, foretold, shortlisted within limits."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from search_spaces.registry import SPACES
from workers.adapt.data import Part, TaskData
from workers.adapt.knowledge import Knowledge
from workers.adapt.limits import Feasible, Limits
from workers.contracts.loss_model import ENTRIES, TRAITS, LossModel, TrialConfig, TrialFindings
from workers.priors.loss_model import draw_valid
from workers.priors.model import options_of

SPACE = SPACES["nas_bench_201"]
MACRO = SPACE.default_macro(num_classes=4, image_size=16)
NOTHING = tuple((0.0,) * SPACE.num_options for _ in range(SPACE.num_decisions))
NO_EFFECT = dict.fromkeys(TRAITS, 0.0)
DEEP_IS_GOOD = {"longest": -1.0, "shortest": 0.0, "log_params": 0.0, "log_macs": 0.0}


def model(**changes: object) -> LossModel:
    given = {"options": NOTHING, "traits": DEEP_IS_GOOD, "context_mean": dict.fromkeys(ENTRIES, 0.0), "noise": 0.1}
    return LossModel.model_validate({**given, "log_evidence": 0.0, **changes})


def task(images: Tensor) -> TaskData:
    part = Part(images=images, labels=torch.arange(len(images)) % 4)
    return TaskData(support=part, query=part.first(8), test=part.first(0), classes=("a", "b", "c", "d"))


@pytest.fixture
def data() -> TaskData:
    generator = torch.Generator().manual_seed(0)
    return task(torch.randint(0, 256, (40, 16, 16, 3), generator=generator, dtype=torch.uint8))


@pytest.fixture
def knowledge(data: TaskData) -> Knowledge:
    findings = TrialFindings(config=TrialConfig(), num_trials=9, chooses=model(), ranks=model(one_shot=2.0))
    return Knowledge.of(findings, data, SPACE, MACRO, num_steps=1000)


def shortlist(knowledge: Knowledge, number: int = 5, limits: Limits | None = None) -> list:
    feasible = Feasible(SPACE, MACRO, limits or Limits())
    return knowledge.shortlist(feasible, number, torch.Generator().manual_seed(0))


def test_the_shortlist_holds_the_best_that_there_are(knowledge: Knowledge) -> None:
    found = shortlist(knowledge)
    assert len(set(found)) == 5
    # Only a way over all four nodes has three ops with weights.
    assert {SPACE.depth(arch).longest for arch in found} == {3}


def test_images_to_be_trained_on_may_be_fewer_than_are_there(knowledge: Knowledge, data: TaskData) -> None:
    few, all_of_them = (
        Knowledge.of(knowledge.findings, data, SPACE, MACRO, num_steps=10, num_examples=number).description
        for number in (10, None)
    )
    assert few["images_per_class"] < all_of_them["images_per_class"]
    assert {**few, "images_per_class": 0} == {**all_of_them, "images_per_class": 0}


def test_the_shortlist_keeps_within_limits(knowledge: Knowledge) -> None:
    limit = SPACE.minimum_cost(MACRO).macs * 3 // 2
    found = shortlist(knowledge, limits=Limits(max_macs=limit))
    assert found
    assert all(SPACE.cost(arch, MACRO).macs <= limit for arch in found)


def test_under_the_tightest_limit_the_cheapest_is_left(knowledge: Knowledge) -> None:
    smallest = SPACE.minimum_cost(MACRO)
    found = shortlist(knowledge, limits=Limits(max_macs=smallest.macs, max_params=smallest.params))
    assert found
    assert all(SPACE.cost(arch, MACRO) == smallest for arch in found)


def test_the_shortlist_holds_nothing_that_the_prior_rules_out(knowledge: Knowledge) -> None:
    cells = [
        "|skip_connect~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|skip_connect~1|nor_conv_3x3~2|",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    ]
    possible = options_of([SPACE.parse(cell) for cell in cells])
    found = shortlist(replace(knowledge, possible=possible), number=20)
    assert len(found) == 7  # three decisions are left, of two options each, and two of these cells compute the same
    assert all(possible[edge, option] for arch in found for edge, option in enumerate(arch.choices))
    assert SPACE.depth(found[0]).longest == 3
    chances = torch.softmax(replace(knowledge, possible=possible).option_logits, dim=1)
    assert torch.equal(chances > 0, possible)


def test_the_shortlist_names_no_network_twice(knowledge: Knowledge) -> None:
    # Cells without weights are best, of which most compute the same as another one.
    skips_are_good = replace(
        knowledge,
        findings=knowledge.findings.model_copy(
            update={"chooses": model(traits={**NO_EFFECT, "longest": 5.0, "log_params": 1.0})}
        ),
    )
    found = shortlist(skips_are_good, number=12)
    assert len({SPACE.signature(arch) for arch in found}) == len(found) == 12
    assert SPACE.depth(found[0]).longest == 0


def test_the_shortlist_follows_from_the_draws(knowledge: Knowledge) -> None:
    assert shortlist(knowledge) == shortlist(knowledge)


def test_what_the_dataset_looks_like_changes_what_is_foretold(knowledge: Knowledge, data: TaskData) -> None:
    reads_color = model(traits=NO_EFFECT, context={"color": {**NO_EFFECT, "longest": 1.0}})
    findings = knowledge.findings.model_copy(update={"chooses": reads_color})
    gray = task(data.support.images[..., :1].expand(-1, -1, -1, 3).contiguous())
    archs = draw_valid(SPACE, 20, torch.Generator().manual_seed(1))
    in_color = Knowledge.of(findings, data, SPACE, MACRO, num_steps=1000).foretell(archs)
    in_gray = Knowledge.of(findings, gray, SPACE, MACRO, num_steps=1000).foretell(archs)
    assert float(in_gray.std()) < 1e-5 < 0.1 < float(in_color.std())


def test_how_long_a_training_will_be_changes_what_is_foretold(knowledge: Knowledge) -> None:
    reads_length = model(traits=NO_EFFECT, context={"training_steps": {**NO_EFFECT, "log_params": -1.0}})
    findings = knowledge.findings.model_copy(update={"chooses": reads_length, "config": TrialConfig(num_steps=2000)})
    long, short = (replace(knowledge, findings=findings).trained_for(steps) for steps in (16_000, 62))
    params = [
        SPACE.cost(min(shortlist(one), key=lambda arch: SPACE.cost(arch, MACRO).params), MACRO).params
        for one in (long, short)
    ]
    assert params[0] > 2 * params[1]
    steps = 8 * findings.config.num_steps
    assert knowledge.trained_for(100 * steps).description == knowledge.trained_for(steps).description


def test_losses_before_training_count_where_they_are_known(knowledge: Knowledge) -> None:
    archs = draw_valid(SPACE, 2, torch.Generator().manual_seed(1))
    plain = knowledge.foretell(archs)
    told = knowledge.foretell(archs, [0.5, 1.5])
    torch.testing.assert_close((told - plain)[1] - (told - plain)[0], torch.tensor(2.0, dtype=torch.float64))


def test_an_empty_shortlist_costs_nothing(knowledge: Knowledge) -> None:
    assert shortlist(knowledge, number=0) == []


def test_numbers_that_no_exponential_holds_are_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1000000"):
        model(traits={**NO_EFFECT, "longest": 1e39})
    with pytest.raises(ValidationError, match="noise"):
        model(noise=1e-300)
