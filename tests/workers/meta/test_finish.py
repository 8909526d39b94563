from pathlib import Path

import pytest
import torch

from search_spaces.registry import SPACES
from workers.contracts.loss_model import ENTRIES, TRAITS, LossModel, TrialConfig, TrialFindings
from workers.contracts.meta_config import MetaConfig
from workers.contracts.priors import LearnedFrom
from workers.meta.finish import Origin, finish, informed
from workers.meta.learning.loop import meta_train
from workers.meta.learning.state import MetaState
from workers.priors.model import options_of, possible_options
from workers.tasks.distribution import ClassImages

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"
OTHER = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


@pytest.mark.parametrize(
    ("architectures", "said"),
    [
        ([], None),
        ([CELL], f"Only the weights of {CELL} were learned"),
        ([CELL, OTHER], f"Only ops that one of these has were learned: {CELL}, {OTHER}."),
    ],
)
def test_a_card_says_what_was_learned_where_options_are_ruled_out(
    architectures: list[str], said: str | None, short_config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    config = MetaConfig.model_validate({**short_config.model_dump(), "architectures": architectures})
    state = meta_train(config, classes, None, tmp_path)
    card = finish(state, tmp_path, prior_id="own", origin=Origin(command="made for tests", data=()))

    assert said in card.inherits if said else "Only" not in card.inherits
    assert card.config["architectures"] == architectures
    space = SPACES["nas_bench_201"]
    named = [space.parse(text).choices for text in architectures]
    choices = zip(space.parse(card.mode).choices, *named, strict=True)
    assert not named or all(chosen in options for chosen, *options in choices)


def test_terms_of_the_parents_images_hold_for_its_children(
    short_config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    photos, glyphs = (
        LearnedFrom(name=name, sha256=letter * 64, terms=terms, classes=("one", "two"))
        for name, letter, terms in (("photos", "a", "non-commercial research"), ("glyphs", "b", "free"))
    )
    others_photos = photos.model_copy(update={"sha256": "c" * 64, "terms": "with attribution"})
    state = meta_train(short_config, classes, None, tmp_path)
    origin = Origin(command="made for tests", data=[glyphs], parent="p", parent_data=[photos, glyphs, others_photos])
    card = finish(state, tmp_path, prior_id="own", origin=origin)
    assert card.data == (glyphs, photos, others_photos)
    assert card.terms == {"glyphs": "free", "photos": "non-commercial research; with attribution"}


def test_what_trials_find_rules_nothing_in(tmp_path: Path, short_config: MetaConfig, classes: ClassImages) -> None:
    config = MetaConfig.model_validate({**short_config.model_dump(), "architectures": [CELL, OTHER], "trials": {}})
    space = SPACES[config.search_space]
    prior = MetaState(config, classes.class_names).prior
    likes = tuple((0.0, 0.0, 0.0, 9.0, -9.0) for _ in range(space.num_decisions))
    model = LossModel(
        options=likes, traits=dict.fromkeys(TRAITS, 0.0), context_mean=dict.fromkeys(ENTRIES, 0.0), noise=0.1,
        log_evidence=0.0,
    )  # fmt: skip
    found = informed(prior, config, TrialFindings(config=TrialConfig(), num_trials=9, chooses=model))
    possible = options_of([space.parse(CELL), space.parse(OTHER)])
    assert torch.equal(possible_options(found.arch_logits), possible)
    assert len(found.arch_logits[possible].unique()) > 1
