from dataclasses import replace

import pytest

from search_spaces.errors import InvalidArchitectureError, InvalidOptionError, UnknownNameError
from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt.plan import (
    MIN_TRAIN_STEPS,
    Speed,
    SplitSizes,
    affordable_images,
    batch_size,
    check_request,
    choose_macro,
    choose_resolution,
    make_plan,
)
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import InvalidDatasetError, InvalidPriorError, LimitUnreachableError
from workers.contracts.priors import MacroSpec, PriorCard
from workers.priors.registry import bundled_cards

SPEED = Speed(search_step_s=0.02, path_s=0.01, candidate_s=0.2, train_step_s=0.05, forward_s=1e-4, export_s=5.0)
SIZES = SplitSizes(train=5000, query=500, test=1000)
MACRO = Macro(num_channels=16, num_cells=1, num_classes=3, image_size=32)


def report(median_size: int = 32) -> DatasetReport:
    return DatasetReport(
        classes=("a", "b", "c"),
        num_images=(10, 10, 10),
        median_size=median_size,
        min_size=8,
        max_size=400,
        modes={"RGB": 30},
    )


def card(space: str = "nas_bench_201") -> PriorCard:
    return PriorCard(
        id="p",
        search_space=space,
        macro=MacroSpec(num_channels=24, num_cells=2),
        sha256="0",
        num_bytes=1,
        mode="",
        resolutions=(16,),
        num_steps=1,
        inherits="",
        command="",
        config={},
        data=(),
        curves={},
        created_at="",
        versions={},
    )


@pytest.mark.parametrize(
    ("median_size", "budget_s", "expected"),
    [(8, 60, 16), (20, 60, 24), (28, 60, 32), (32, 60, 32), (500, 60, 32), (50, 600, 64), (500, 600, 64)],
)
def test_the_resolution_follows_from_the_images_and_the_budget(
    median_size: int, budget_s: float, expected: int
) -> None:
    assert choose_resolution(AdaptationRequest(budget_s=budget_s), report(median_size)) == expected


def test_a_resolution_that_was_asked_for_is_kept() -> None:
    assert choose_resolution(AdaptationRequest(resolution=40), report(8)) == 40


def test_the_skeleton_is_the_priors_where_there_is_one() -> None:
    with_prior = choose_macro(AdaptationRequest(), report(), card())
    assert (with_prior.num_channels, with_prior.num_cells, with_prior.num_classes) == (24, 2, 3)


def test_the_width_is_as_asked_where_there_is_no_prior() -> None:
    assert choose_macro(AdaptationRequest(prior="none"), report(), None).num_channels == 16
    assert choose_macro(AdaptationRequest(prior="none", num_channels=40), report(), None).num_channels == 40


def test_a_width_that_a_prior_does_not_have_is_refused() -> None:
    check_request(AdaptationRequest(num_channels=24), report(), card())
    with pytest.raises(InvalidOptionError, match=r"num_channels.*got 16.*expected 24.*begin without a prior"):
        check_request(AdaptationRequest(num_channels=16), report(), card())


def test_requests_that_cannot_end_well_are_refused_with_the_way_out() -> None:
    with pytest.raises(UnknownNameError, match="darts, mobile, nas_bench_201"):
        check_request(AdaptationRequest(search_space="nasnet"), report(), None)
    with pytest.raises(InvalidPriorError, match="belongs to search space darts"):
        check_request(AdaptationRequest(), report(), card("darts"))
    deep = bundled_cards()["nas_bench_201-deep"]
    with pytest.raises(InvalidPriorError, match=r"has learned no weights.*archprior recommend"):
        check_request(AdaptationRequest(prior=deep.id), report(), deep)
    for learned in ({"num_steps": 2}, {"parent": "nas_bench_201-v4"}):
        check_request(AdaptationRequest(prior=deep.id), report(), deep.model_copy(update=learned))
    with pytest.raises(InvalidOptionError, match="without a prior"):
        check_request(AdaptationRequest(search="prior_mode", prior="none"), report(), None)
    with pytest.raises(LimitUnreachableError, match=r"at least \d+"):
        check_request(AdaptationRequest(max_params=10), report(), None)


CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"


def test_an_architecture_that_is_given_is_checked_before_anything_is_trained() -> None:
    def given(text: str | None = CELL, search: str = "given", **limits: int) -> None:
        request = AdaptationRequest.model_validate({"search": search, "architecture": text, **limits})
        check_request(request, report(), None)

    space = SPACES["nas_bench_201"]
    cost = space.cost(space.parse(CELL), choose_macro(AdaptationRequest(), report(), None))
    given(max_params=cost.params, max_macs=cost.macs)
    for name, spent in (("max_params", cost.params), ("max_macs", cost.macs)):
        with pytest.raises(LimitUnreachableError, match=rf"{name}: the given architecture.*at least {spent}\."):
            given(**{name: spent - 1})
    with pytest.raises(InvalidArchitectureError, match="one of none, skip_connect"):
        given(CELL.replace("nor_conv_3x3", "conv", 1))
    with pytest.raises(InvalidArchitectureError, match="no way from the cell's input to its output"):
        given("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    for search, text in (("given", None), ("adapt", CELL), ("random", CELL)):
        with pytest.raises(InvalidOptionError, match="'given' goes with an architecture"):
            given(text, search)


def test_without_a_prior_nothing_is_searched_unless_the_supernet_is_asked_for() -> None:
    def is_searched(doubt: float = 1.0, **options: object) -> bool:
        request = AdaptationRequest.model_validate(options)
        plan = make_plan(
            request, MACRO, SIZES, SPEED, remaining_s=60, flip=True, precision="float32", doubt=doubt, reads=False
        )
        assert (plan.num_search_steps > 0) == (plan.num_candidates > 0)
        return plan.num_search_steps > 0 and plan.race_steps > 0

    assert not any(is_searched(prior=prior) for prior in ("none", None))
    assert is_searched(prior="p")
    assert not is_searched(prior="p", doubt=0.0)
    assert all(is_searched(search="supernet", prior=prior, doubt=0.0) for prior in ("none", "p"))


@pytest.mark.parametrize("search", ["adapt", "supernet", "prior_mode", "random", "given"])
@pytest.mark.parametrize("remaining_s", [0.0, 3.0, 20.0, 55.0, 3600.0])
def test_a_plan_never_spends_more_than_is_left(search: str, remaining_s: float) -> None:
    request = AdaptationRequest.model_validate({"search": search, "prior": "p"})
    plan = make_plan(
        request, MACRO, SIZES, SPEED, remaining_s=remaining_s, flip=False, precision="float32", doubt=1.0, reads=False
    )
    spent_s = plan.search_s + plan.choice_s + plan.race_s + plan.train_s
    assert spent_s <= max(0.0, remaining_s - plan.export_s) + 1e-6
    assert plan.max_train_steps >= MIN_TRAIN_STEPS
    if search not in ("adapt", "supernet"):
        assert plan.num_search_steps == plan.num_candidates == 0


@pytest.mark.parametrize(
    ("num_workers", "num_train", "side", "expected"),
    [(0, 5000, 32, 128), (1, 5000, 16, 128), (2, 5000, 32, 64), (8, 5000, 32, 64), (1, 5000, 48, 64), (1, 70, 32, 70)],
)
def test_workers_share_a_batch_but_each_has_enough_and_large_images_come_fewer_at_once(
    num_workers: int, num_train: int, side: int, expected: int
) -> None:
    assert batch_size(AdaptationRequest(num_workers=num_workers), num_train, side) == expected


@pytest.mark.parametrize(
    ("train", "side", "calibrated"), [(300, 32, 300), (5000, 32, 1024), (5000, 24, 1024), (5000, 64, 256)]
)
def test_passes_of_the_exported_network_are_planned_with_the_export(train: int, side: int, calibrated: int) -> None:
    plan = make_plan(
        AdaptationRequest(prior="p"),
        replace(MACRO, image_size=side),
        replace(SIZES, train=train),
        SPEED,
        remaining_s=60,
        flip=True,
        precision="float32",
        doubt=1.0,
        reads=True,
    )
    num_passed = SIZES.test + 2 * SIZES.query + calibrated
    assert plan.export_s == pytest.approx(SPEED.export_s + num_passed * SPEED.forward_s, abs=1e-3)


@pytest.mark.parametrize(
    ("train", "side", "num_workers", "steps_per_epoch", "choice_every"),
    [(5000, 32, 1, 40, 2), (5000, 64, 1, 79, 4), (5000, 32, 2, 40, 4), (5000, 32, 4, 20, 4), (30, 32, 1, 2, 4)],
)
def test_steps_follow_from_the_images_that_all_workers_take(
    train: int, side: int, num_workers: int, steps_per_epoch: int, choice_every: int
) -> None:
    request = AdaptationRequest(prior="p", num_workers=num_workers)
    macro, sizes = replace(MACRO, image_size=side), replace(SIZES, train=train)
    plan = make_plan(
        request, macro, sizes, SPEED, remaining_s=1e6, flip=True, precision="float32", doubt=1.0, reads=False
    )
    assert (plan.max_train_steps, plan.choice_every) == (60 * steps_per_epoch, choice_every)
    assert plan.race_steps == max(8, 2 * steps_per_epoch)
    images_per_step = plan.batch_size * num_workers
    assert affordable_images(request, macro, sizes, SPEED, 1e6) == plan.max_train_steps * images_per_step


def test_the_surer_the_prior_the_less_is_searched() -> None:
    request = AdaptationRequest(prior="p")
    plans = [
        make_plan(
            request, MACRO, SIZES, SPEED, remaining_s=60, flip=True, precision="float32", doubt=doubt, reads=False
        )
        for doubt in (1.0, 0.1, 0.0)
    ]
    steps = [plan.num_search_steps for plan in plans]
    assert steps[0] > steps[1] > steps[2] == 0
    assert plans[2].train_s > plans[0].train_s


def test_a_prior_that_reads_the_dataset_searches_nothing_in_the_supernet() -> None:
    request = AdaptationRequest(prior="p")
    plan = make_plan(
        request, MACRO, SIZES, SPEED, remaining_s=60, flip=True, precision="float32", doubt=1.0, reads=True
    )
    assert (plan.num_search_steps, plan.search_s) == (0, 0.0)
    assert plan.race_steps > 0


def test_images_that_do_not_fit_into_memory_are_refused_with_a_resolution_that_does() -> None:
    many = report().model_copy(update={"num_images": (70_000, 70_000, 60_000)})
    with pytest.raises(InvalidDatasetError, match="resolution of 84 or less"):
        check_request(AdaptationRequest(resolution=256), many, None)
    check_request(AdaptationRequest(resolution=84), many, None)
