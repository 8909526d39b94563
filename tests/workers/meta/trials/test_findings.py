"""What trials teach: made-up losses with known causes."""

import random

import pytest
import torch

from search_spaces.registry import SPACES
from workers.contracts.errors import InvalidDatasetError
from workers.contracts.loss_model import ENTRIES, TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.meta.trials.findings import find
from workers.meta.trials.trial import Trial
from workers.priors.loss_model import draw_valid, option_logits, predict
from workers.priors.model import full_macro

SPACE = SPACES["nas_bench_201"]
CONFIG = MetaConfig(trials=TrialConfig())
MACRO = full_macro(CONFIG.macro, num_classes=2, image_size=16)
COLORED, GRAY = ({**dict.fromkeys(ENTRIES, 0.0), "color": value} for value in (1.0, 0.0))


def trials_where(loss_of, *, one_shot_of=lambda *_: 0.5, num_tasks: int = 40, lengths=(0.0,)) -> list[Trial]:
    archs = draw_valid(SPACE, 8 * num_tasks, torch.Generator().manual_seed(0))
    noise = random.Random(0)
    made = []
    for place, arch in enumerate(archs):
        task = place // 8
        description = {**(COLORED if task % 2 else GRAY), "training_steps": lengths[task // 2 % len(lengths)]}
        made.append(
            Trial(
                task=task, number=place % 8, architecture=SPACE.format(arch), dataset=0, description=description,
                num_steps=1, one_shot=one_shot_of(arch, noise.gauss(0, 1)), loss=1.0,
                accuracy=1 - (task + loss_of(arch, description) + 0.05 * noise.gauss(0, 1)),
            )
        )  # fmt: skip
    return made


ARCHS = draw_valid(SPACE, 300, torch.Generator().manual_seed(1))


def agreement(model, description, truth) -> float:
    predicted = predict(model, SPACE, MACRO, ARCHS, description)
    wanted = torch.tensor([truth(arch, description) for arch in ARCHS], dtype=torch.float64)
    return float(torch.corrcoef(torch.stack([predicted, wanted]))[0, 1])


def skip_is_good(arch, _description) -> float:
    return -0.2 * (arch.choices[3] == 1)


def depth_is_good_in_color(arch, description) -> float:
    return -0.1 * SPACE.depth(arch).longest * (2 * description["color"] - 1)


def test_what_an_option_is_worth_is_found_and_becomes_a_logit() -> None:
    model = find(trials_where(skip_is_good), CONFIG).chooses
    assert agreement(model, GRAY, skip_is_good) > 0.95
    assert all(abs(effect) < 0.01 for effects in model.context.values() for effect in effects.values())
    assert model.noise == pytest.approx(0.05, abs=0.01)
    logits = option_logits(model, SPACE, MACRO)
    assert int(logits[3].argmax()) == 1
    assert float(logits[3].softmax(0)[1]) > 0.8
    assert float(logits[0].softmax(0).max()) < 0.5


def test_what_depends_on_the_data_is_read_from_the_data() -> None:
    model = find(trials_where(depth_is_good_in_color), CONFIG).chooses
    assert model.context
    for description in (COLORED, GRAY):
        assert agreement(model, description, depth_is_good_in_color) > 0.9
    colored, gray = (SPACE.discretize(option_logits(model, SPACE, MACRO, d).tolist()) for d in (COLORED, GRAY))
    assert SPACE.depth(colored).longest > SPACE.depth(gray).longest


def test_what_only_a_long_training_shows_is_foretold_for_one_that_is_longer_still() -> None:
    def depth_pays_off(arch, description) -> float:
        return -0.05 * SPACE.depth(arch).longest * (3 + description["training_steps"])

    trials = trials_where(depth_pays_off, lengths=(0.0, -3.0))
    model = find(trials, CONFIG).chooses
    longer = {**GRAY, "training_steps": 4.0}
    assert agreement(model, longer, depth_pays_off) > 0.9
    spread = [
        float(predict(model, SPACE, MACRO, ARCHS, {**GRAY, "training_steps": steps}).std()) for steps in (-3.0, 4.0)
    ]
    assert spread[0] < 0.3 * spread[1]


def test_one_shot_losses_rank_where_they_foretell_the_loss() -> None:
    told = {}

    def one_shot(arch, noise: float) -> float:
        told[arch] = 0.3 * noise
        return told[arch]

    findings = find(trials_where(lambda arch, _: told.get(arch, 0.0), one_shot_of=one_shot), CONFIG)
    assert findings.ranks is not None
    assert findings.ranks.one_shot * findings.ranks.noise == pytest.approx(1.0, abs=0.1)
    assert findings.ranks.log_evidence > findings.chooses.log_evidence


def test_without_one_shot_losses_nothing_is_ranked_by_them() -> None:
    findings = find(trials_where(skip_is_good, one_shot_of=lambda *_: None), CONFIG)
    assert findings.ranks is None


def test_trials_that_diverged_say_nothing() -> None:
    trials = trials_where(skip_is_good)
    broken = [trial.model_copy(update={"loss": None}) if trial.number < 3 else trial for trial in trials]
    assert find(broken, CONFIG).num_trials == 200
    with pytest.raises(InvalidDatasetError, match="no trials to learn from"):
        find([trial for trial in trials if trial.number == 0], CONFIG)


def test_dead_ops_neither_teach_nor_are_foretold_to_matter() -> None:
    trials = trials_where(skip_is_good)
    connected = [
        trial.model_copy(update={"architecture": SPACE.format(SPACE.connected(SPACE.parse(trial.architecture)))})
        for trial in trials
    ]
    assert connected != trials
    model = find(trials, CONFIG).chooses
    assert find(connected, CONFIG).chooses == model
    alive = [SPACE.connected(arch) for arch in ARCHS]
    assert torch.equal(predict(model, SPACE, MACRO, alive, GRAY), predict(model, SPACE, MACRO, ARCHS, GRAY))


def test_the_order_of_trials_does_not_matter() -> None:
    trials = trials_where(skip_is_good)
    assert find(trials, CONFIG) == find(trials[::-1], CONFIG)


def test_trials_that_were_all_equally_right_teach_nothing_and_end_no_run() -> None:
    equal = [trial.model_copy(update={"accuracy": 1.0}) for trial in trials_where(skip_is_good)]
    findings = find(equal, CONFIG)
    assert findings.num_trials == 320
    assert float(option_logits(findings.chooses, SPACE, MACRO).abs().max()) == 0.0
