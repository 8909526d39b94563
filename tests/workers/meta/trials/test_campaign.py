"""All trials of a run: in order, resumed exactly, the second half on what the first half says is good."""

from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.registry import SPACES
from workers.contracts.errors import CheckpointMismatchError
from workers.contracts.loss_model import ENTRIES
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import MetaData
from workers.meta.trials import campaign
from workers.meta.trials.campaign import TRIALS, read_trials, run_trials
from workers.meta.trials.plan import architectures, taught
from workers.meta.trials.trial import Trial, Workshop, draw_task
from workers.priors.model import options_of, ruled_out

SPACE = SPACES["nas_bench_201"]


class StoppedError(Exception):
    """Stands for a kill."""


def stop_at(number: int):
    seen = []

    def on_trial(trial: Trial) -> None:
        seen.append(trial)
        if len(seen) == number:
            raise StoppedError

    return on_trial


def test_every_task_has_its_trials_and_the_first_is_the_mode(shop: Workshop, tmp_path: Path) -> None:
    findings = run_trials(shop, tmp_path)
    trials = read_trials(tmp_path / TRIALS)
    assert sorted(trials) == [(task, number) for task in range(4) for number in range(3)]
    assert {trials[task, 0].architecture for task in range(4)} == {SPACE.format(shop.mode)}
    assert findings.num_trials == 12
    assert findings.config == shop.trials
    assert findings.ranks is not None


def test_a_run_that_was_stopped_goes_on_to_the_same_findings(shop: Workshop, tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = run_trials(shop, tmp_path / "whole")
    for kill_after in (1, 5, 8):
        with pytest.raises(StoppedError):
            run_trials(shop, tmp_path / "cut", on_trial=stop_at(kill_after))
    with (tmp_path / "cut" / TRIALS).open("a") as file:
        file.write('{"task": 2, "numb')  # killed while it wrote
    assert run_trials(shop, tmp_path / "cut") == whole
    files = [(tmp_path / name / TRIALS).read_text() for name in ("cut", "whole")]
    assert files[0] == files[1]


def test_trials_side_by_side_find_what_they_find_one_by_one(shop: Workshop, tmp_path: Path) -> None:
    found = {}
    for at_once in (1, 3):
        (tmp_path / str(at_once)).mkdir()
        findings = run_trials(shop, tmp_path / str(at_once), at_once=at_once)
        found[at_once] = findings, read_trials(tmp_path / str(at_once) / TRIALS)
    assert found[1] == found[3]


def test_a_run_that_is_broken_off_ends_the_trials_under_way(shop: Workshop, tmp_path: Path) -> None:
    hours_then_moments = {"num_steps": 10**6, "num_steps_shares": (1.0, 1e-6)}
    long = replace(shop, trials=shop.trials.model_copy(update=hours_then_moments))
    with pytest.raises(StoppedError):
        run_trials(long, tmp_path, at_once=shop.trials.num_archs + 1, on_trial=stop_at(1))
    assert len(read_trials(tmp_path / TRIALS)) == 1


def test_trials_of_other_weights_or_another_configuration_are_not_added_to(shop: Workshop, tmp_path: Path) -> None:
    run_trials(shop, tmp_path)
    moved = replace(shop.prior, loc={name: value + 1 for name, value in shop.prior.loc.items()})
    for other in (replace(shop, prior=moved), replace(shop, config=shop.config.model_copy(update={"seed": 9}))):
        with pytest.raises(CheckpointMismatchError, match="of another configuration or of other weights"):
            run_trials(other, tmp_path)


def test_trials_that_are_done_are_not_made_again(shop: Workshop, tmp_path: Path, monkeypatch) -> None:
    run_trials(shop, tmp_path)
    monkeypatch.setattr(campaign, "run_trial", None)
    assert run_trials(shop, tmp_path).num_trials == 12


def test_the_second_half_tries_what_the_first_half_says_is_good(shop: Workshop, config: MetaConfig) -> None:
    shop = replace(shop, trials=shop.trials.model_copy(update={"num_archs": 9, "num_tasks": 40}))
    raw = draw_task(shop, 30)
    description = dict.fromkeys(ENTRIES, 0.0)

    def depth(text: str) -> float:
        return SPACE.depth(SPACE.parse(text)).longest

    first_half = {}
    for task in range(20):
        for number, arch in enumerate(architectures(shop, draw_task(shop, task), task, None)):
            text = SPACE.format(arch)
            first_half[task, number] = Trial(
                task=task, number=number, architecture=text, dataset=0, description=description, num_steps=1,
                loss=1.0, accuracy=0.2 * depth(text),
            )  # fmt: skip
    known = taught(shop.config.model_copy(update={"trials": shop.trials}), shop.trials, first_half)
    drawn = {None: architectures(shop, raw, 30, None)[1:], "known": architectures(shop, raw, 30, known)[1:]}
    depths = {key: [depth(SPACE.format(arch)) for arch in archs] for key, archs in drawn.items()}
    assert min(depths["known"]) >= 2 > sum(depths[None]) / 8
    assert len(set(drawn["known"])) == 8


def test_with_fresh_weights_a_task_tries_different_networks_and_no_mode(shop: Workshop, data: MetaData) -> None:
    trials = shop.trials.model_copy(update={"weights": "fresh", "num_archs": 60})
    fresh = Workshop.build(shop.config, trials, data, shop.prior)
    assert fresh.mode is None
    tried = architectures(fresh, draw_task(fresh, 0), 0, None)
    assert len({SPACE.signature(arch) for arch in tried}) == len(tried) == 60
    with_mode = replace(fresh, mode=shop.mode)
    first, *others = architectures(with_mode, draw_task(fresh, 0), 0, None)
    assert first == shop.mode
    assert SPACE.signature(shop.mode) not in {SPACE.signature(arch) for arch in others}


def test_trials_try_possible_options_only(shop: Workshop) -> None:
    cells = [shop.mode, SPACE.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|")]
    possible = options_of(cells)
    prior = replace(shop.prior, arch_logits=ruled_out(shop.prior.arch_logits, possible))
    narrow = replace(shop, prior=prior, trials=shop.trials.model_copy(update={"num_archs": 6}))
    tried = architectures(narrow, draw_task(narrow, 0), 0, None)
    assert len(set(tried)) > 2
    assert all(possible[edge, option] for arch in tried for edge, option in enumerate(arch.choices))
