from pathlib import Path

import pytest

from workers.contracts.meta_config import MetaConfig
from workers.meta.finish import finish
from workers.meta.learning.loop import meta_train
from workers.tasks.distribution import ClassImages

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"


@pytest.mark.parametrize("architecture", [None, CELL])
def test_a_card_says_whether_the_weights_are_of_one_architecture_alone(
    architecture: str | None, short_config: MetaConfig, classes: ClassImages, tmp_path: Path
) -> None:
    config = MetaConfig.model_validate({**short_config.model_dump(), "architecture": architecture})
    state = meta_train(config, classes, None, tmp_path)
    card = finish(state, tmp_path, prior_id="own", command="made for tests", data=())

    assert (f"Only the weights of {CELL} were learned" in card.inherits) is (architecture is not None)
    assert (card.mode == CELL) is (architecture is not None)
    assert card.config["architecture"] == architecture
