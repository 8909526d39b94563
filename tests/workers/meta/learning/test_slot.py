from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from search_spaces.errors import InvalidOptionError
from workers.bayes.aggregate import aggregate
from workers.bayes.distributions import Batch, MetaPrior
from workers.bayes.estimators import ScoreFunction, StraightThrough
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.slot import Drawn, SlotWork, TaskData, draw, gradient, make_estimator, part_of, without_heads
from workers.meta.learning.state import MetaState
from workers.priors.model import HEAD_NAMES, possible_options
from workers.tasks.distribution import ClassImages, TaskDistribution

WARMUP, JOINT, TASK = 0, 4, 7


def work_of(config: MetaConfig, classes: ClassImages) -> SlotWork:
    return SlotWork.build(config, TaskDistribution(classes, {8: 1.0}))


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def sizes(drawn: Drawn) -> tuple[int, ...]:
    if isinstance(drawn.data, TaskData):
        return (*(len(batch.labels) for batch in drawn.data.task.support), len(drawn.data.task.query.labels))
    return (len(drawn.data.labels),)


def test_a_run_warms_up_then_learns_jointly_then_task_by_task(config: MetaConfig) -> None:
    assert [part_of(config, step) for step in range(9)] == ["warmup"] * 3 + ["joint"] * 3 + ["task"] * 3


@pytest.mark.parametrize("step", [WARMUP, JOINT, TASK])
def test_a_slot_is_a_function_of_seed_step_and_slot_whoever_computes_it(
    step: int, config: MetaConfig, classes: ClassImages
) -> None:
    def gradients(order: tuple[int, ...]) -> Mapping[str, Tensor]:
        work = work_of(config, classes)
        prior = MetaState(config, classes.class_names).prior_with_heads
        torch.manual_seed(order[0])  # the global generator must not matter
        made = [gradient(work, prior, draw(work, step=step, slot=slot)) for slot in order]
        return aggregate(made).arrays

    assert same(gradients((0, 1, 2)), gradients((2, 0, 1)))


@pytest.mark.parametrize("step", [JOINT, TASK])
def test_data_drawn_long_before_and_used_twice_give_the_same_gradient(
    step: int, config: MetaConfig, classes: ClassImages
) -> None:
    work = work_of(config, classes)
    prior = MetaState(config, classes.class_names).prior_with_heads
    first, second = (draw(work, step=step, slot=slot) for slot in (0, 1))
    late = gradient(work, prior, second)
    found = [gradient(work, prior, first) for _ in range(2)]
    assert same(found[0].arrays, found[1].arrays)
    assert not same(found[0].arrays, late.arrays)


# Of the code before drawing and computing came apart: what is drawn, and in which order, must not change.
@pytest.mark.parametrize(("step", "loss"), [(WARMUP, 2.192651), (JOINT, 2.158249), (TASK, 0.690359)])
def test_a_slot_draws_what_it_always_drew(step: int, loss: float, config: MetaConfig, classes: ClassImages) -> None:
    work = work_of(config, classes)
    prior = MetaState(config, classes.class_names).prior_with_heads
    assert gradient(work, prior, draw(work, step=step, slot=1)).loss == pytest.approx(loss, rel=1e-4)


def test_a_task_has_as_many_images_as_the_configuration_draws(config: MetaConfig, classes: ClassImages) -> None:
    few = config.model_copy(update={"num_examples": (10, 10), "min_ways": 2, "max_ways": 2})
    drawn = draw(work_of(few, classes), step=TASK, slot=0)

    assert isinstance(drawn.data, TaskData)
    assert drawn.data.task.num_examples == 10
    images = [*drawn.data.plain.images, *drawn.data.task.query.images]
    assert len({image.numpy().tobytes() for image in images}) == 10


def test_different_slots_and_steps_draw_different_tasks(config: MetaConfig, classes: ClassImages) -> None:
    work = work_of(config, classes)
    prior = MetaState(config, classes.class_names).prior_with_heads
    losses = {gradient(work, prior, draw(work, step=s, slot=i)).loss for s in (7, 8) for i in (0, 1)}
    assert len(losses) == 4


def test_heads_learn_while_they_stay_and_options_after_the_warm_up(config: MetaConfig, classes: ClassImages) -> None:
    work = work_of(config, classes)
    prior = MetaState(config, classes.class_names).prior_with_heads
    heads = {f"loc/{name}" for name in HEAD_NAMES}

    def learned(step: int) -> set[str]:
        arrays = gradient(work, prior, draw(work, step=step, slot=0)).arrays
        return {key for key, value in arrays.items() if bool(value.any())}

    assert heads <= learned(WARMUP)
    assert "arch_logits" not in learned(WARMUP)
    assert heads | {"arch_logits"} <= learned(JOINT)
    assert "arch_logits" in learned(TASK)
    assert not heads & learned(TASK)


def test_a_task_reads_no_persistent_head(config: MetaConfig, classes: ClassImages) -> None:
    work = work_of(config, classes)
    prior = MetaState(config, classes.class_names).prior_with_heads
    drawn = draw(work, step=TASK, slot=0)
    bare = without_heads(prior)
    assert not bare.loc.keys() & set(HEAD_NAMES)
    assert same(gradient(work, prior, drawn).arrays, gradient(work, bare, drawn).arrays)


def test_a_divisor_makes_batches_smaller_and_the_gradient_another(config: MetaConfig, classes: ClassImages) -> None:
    work = work_of(config, classes)
    prior = MetaState(config, classes.class_names).prior_with_heads
    for step, whole, halved in ((JOINT, (16,), (8,)), (TASK, (12, 12, 12), (6, 6, 6))):
        assert sizes(draw(work, step=step, slot=0)) == whole
        smaller = draw(work, step=step, slot=0, batch_divisor=2)
        assert sizes(smaller) == halved
        arrays = gradient(work, prior, smaller).arrays
        assert not same(arrays, gradient(work, prior, draw(work, step=step, slot=0)).arrays)


def test_no_divisor_takes_what_a_task_needs(config: MetaConfig, classes: ClassImages) -> None:
    greedy = config.model_copy(update={"min_ways": 6, "max_ways": 6})
    work = work_of(greedy, classes)
    assert sizes(draw(work, step=JOINT, slot=0, batch_divisor=1000)) == (2,)
    drawn = draw(work, step=TASK, slot=0, batch_divisor=1000)
    assert sizes(drawn) == (3, 3, 6)
    assert isinstance(drawn.data, TaskData)
    assert set(drawn.data.plain.labels.tolist()) == set(drawn.data.task.query.labels.tolist()) == set(range(6))


def test_a_configuration_that_asks_for_less_is_not_given_more(config: MetaConfig, classes: ClassImages) -> None:
    modest = config.model_copy(update={"max_ways": 6, "num_inner_steps": 1, "num_support": 4, "num_query": 2})
    work = work_of(modest, classes)
    for slot in range(4):
        drawn = draw(work, step=TASK, slot=slot)
        assert isinstance(drawn.data, TaskData)
        assert sizes(drawn) == (max(4, drawn.data.num_ways), max(2, drawn.data.num_ways))


def test_a_divisor_below_one_is_refused(config: MetaConfig, classes: ClassImages) -> None:
    with pytest.raises(InvalidOptionError, match="batch_divisor"):
        draw(work_of(config, classes), step=0, slot=0, batch_divisor=0)


@pytest.mark.parametrize("step", [WARMUP, TASK])
@pytest.mark.parametrize("rule", ["first_order", "unrolled"])
def test_mixed_precision_gives_nearly_the_same_gradient_in_float32(
    step: int, rule: str, config: MetaConfig, classes: ClassImages
) -> None:
    relaxed = MetaConfig.model_validate({**config.model_dump(), "rule": rule, "estimator": "relaxed"})
    prior = MetaState(relaxed, classes.class_names).prior_with_heads
    found = []
    for precision in ("float32", "bfloat16"):
        work = work_of(relaxed.model_copy(update={"precision": precision}), classes)
        found.append(gradient(work, prior, draw(work, step=step, slot=1)))
    exact, mixed = found
    assert {value.dtype for value in mixed.arrays.values()} == {torch.float32}
    assert not same(exact.arrays, mixed.arrays)
    # bfloat16 errs by up to 2^-9 at each of a few dozen ops, which batch norm over so few pixels makes larger.
    assert mixed.loss == pytest.approx(exact.loss, rel=0.02)
    flat = [torch.cat([value.flatten() for value in each.arrays.values()]) for each in found]
    assert float((flat[0] - flat[1]).norm() / flat[0].norm()) < 0.3


def test_choices_move_in_the_inner_loop_and_lambda_z_acts_where_they_do(
    config: MetaConfig, classes: ClassImages
) -> None:
    def slope(arch_kl: float) -> Tensor:
        update = {"rule": "kl", "inner_arch_lr": 0.5, "arch_kl": arch_kl, "joint_steps": 0, "warmup_steps": 0}
        chosen = MetaConfig.model_validate({**config.model_dump(), **update})
        work = work_of(chosen, classes)
        prior = MetaState(chosen, classes.class_names).prior_with_heads
        return gradient(work, prior, draw(work, step=0, slot=0)).arrays["arch_logits"]

    assert not torch.equal(slope(1.0), torch.zeros(6, 5))
    assert torch.allclose(slope(2.0), 2 * slope(1.0))


def test_data_are_drawn_on_the_cpu_as_a_batch_or_as_a_task(config: MetaConfig, classes: ClassImages) -> None:
    work = work_of(config, classes)
    joint, task = draw(work, step=JOINT, slot=0), draw(work, step=TASK, slot=0)
    assert isinstance(joint.data, Batch)
    assert joint.data.images.shape == (16, 3, 8, 8)
    assert isinstance(task.data, TaskData)
    assert task.data.plain.images.shape == (24, 3, 8, 8)
    assert 2 <= task.data.num_ways <= 3


def changed(config: MetaConfig, **fields: object) -> MetaConfig:
    return MetaConfig.model_validate({**config.model_dump(), **fields})


def unsure(config: MetaConfig, classes: ClassImages) -> MetaPrior:
    """A prior whose mode is op 3 everywhere, by little."""
    prior = MetaState(config, classes.class_names).prior_with_heads
    prior.arch_logits[:, 3] += 0.5
    return prior


def taught(arrays: Mapping[str, Tensor], op: str) -> set[str]:
    return {key for key, value in arrays.items() if f".{op}." in key and bool(value.any())}


def test_fair_paths_teach_every_option_of_an_edge_once_in_a_round(config: MetaConfig, classes: ClassImages) -> None:
    fair = changed(config, path_sampling="fair", num_steps=20, warmup_steps=5, joint_steps=6, num_slots=1)
    work, prior = work_of(fair, classes), MetaState(fair, classes.class_names).prior_with_heads
    found = [gradient(work, prior, draw(work, step=step, slot=0)).arrays for step in range(5)]

    times = Counter(key for arrays in found for key, value in arrays.items() if value.any() and ".edges." in key)
    assert times
    assert set(times.values()) == {1}


def test_a_share_of_slots_teaches_the_weights_along_the_mode(config: MetaConfig, classes: ClassImages) -> None:
    often = changed(config, mode_share=0.5, num_slots=16)
    work, prior = work_of(often, classes), unsure(often, classes)
    found = [gradient(work, prior, draw(work, step=JOINT, slot=slot)).arrays for slot in range(16)]

    at_mode = [arrays for arrays in found if not arrays["arch_logits"].any()]
    # 16 slots at 1/2: fewer than 2 or more than 14 with chance 0.0005.
    assert 2 <= len(at_mode) <= 14
    only = {frozenset(key for key, value in arrays.items() if value.any()) for arrays in at_mode}
    assert len(only) == 1


def test_choices_apart_learn_from_images_that_the_weights_do_not_see(config: MetaConfig, classes: ClassImages) -> None:
    apart = changed(config, choice_share=0.3)
    work, prior = work_of(apart, classes), unsure(apart, classes)
    drawn = draw(work, step=JOINT, slot=0)
    assert drawn.choices is not None
    assert draw(work, step=WARMUP, slot=0).choices is None
    assert draw(work, step=TASK, slot=0).choices is None
    other = replace(drawn, choices=Batch(images=-drawn.choices.images, labels=drawn.choices.labels))
    found, changed_choices = gradient(work, prior, drawn).arrays, gradient(work, prior, other).arrays

    differing = {key for key in found if not torch.equal(found[key], changed_choices[key])}
    assert differing == {"arch_logits"}


def test_smoothed_labels_change_what_is_learned_until_tasks_begin(config: MetaConfig, classes: ClassImages) -> None:
    prior = unsure(config, classes)
    for step, acts in ((WARMUP, True), (JOINT, True), (TASK, False)):
        plain, smooth = (work_of(c, classes) for c in (config, changed(config, label_smoothing=0.3)))
        found = [gradient(work, prior, draw(work, step=step, slot=0)).arrays for work in (plain, smooth)]
        assert same(*found) is not acts


@pytest.mark.parametrize("rule", ["first_order", "kl", "unrolled"])
@pytest.mark.parametrize("step", [WARMUP, JOINT, TASK])
def test_one_architecture_teaches_its_own_weights_alone(
    step: int, rule: str, config: MetaConfig, classes: ClassImages
) -> None:
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
    estimator = "relaxed" if rule == "unrolled" else config.estimator
    kl = {"weight_kl": 1.0, "inner_weight_kl": 0.1} if rule == "kl" else {}
    alone = changed(config, architectures=[cell], rule=rule, estimator=estimator, **kl)
    work, state = work_of(alone, classes), MetaState(alone, classes.class_names)
    arrays = gradient(work, state.prior_with_heads, draw(work, step=step, slot=0)).arrays

    edges = {key.split(".edges.")[1].split(".")[0] for key, value in arrays.items() if ".edges." in key and value.any()}
    assert not arrays["arch_logits"].any()
    assert len(edges) == 2


@pytest.mark.parametrize("step", [WARMUP, JOINT, TASK])
def test_what_no_architecture_has_is_neither_drawn_nor_learned(
    step: int, config: MetaConfig, classes: ClassImages
) -> None:
    cells = [
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|",
        "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
    ]
    several = changed(config, architectures=cells)
    work, state = work_of(several, classes), MetaState(several, classes.class_names)
    for slot in range(6):
        arrays = gradient(work, state.prior_with_heads, draw(work, step=step, slot=slot)).arrays
        learned = {key.split(".edges.")[1] for key, value in arrays.items() if ".edges." in key and value.any()}
        assert {name.split(".")[0] for name in learned} <= {"0-1", "1-2", "2-3"}
        assert arrays["arch_logits"][[1, 3, 4]].abs().max() < 1e-6


def test_what_a_parent_ruled_out_is_possible_again_where_it_is_named(config: MetaConfig, classes: ClassImages) -> None:
    first = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
    second = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_1x1~2|"
    parent = MetaState(changed(config, architectures=[first]), classes.class_names).prior
    child = MetaState(changed(config, architectures=[first, second]), classes.class_names, parent).prior
    assert possible_options(child.arch_logits).sum(dim=1).tolist() == [2, 1, 2, 1, 1, 1]


def test_choices_that_do_not_learn_cost_no_second_path(config: MetaConfig, classes: ClassImages) -> None:
    still = changed(config, arch_lr=0.0)
    prior = unsure(still, classes)
    works = [work_of(one, classes) for one in (config, still)]
    found = [gradient(work, prior, draw(work, step=JOINT, slot=0)) for work in works]
    assert found[0].arrays["arch_logits"].any()
    assert not found[1].arrays["arch_logits"].any()
    assert isinstance(make_estimator(still), StraightThrough)
    assert isinstance(make_estimator(config), ScoreFunction)
