"""A run's workshop over the six small classes, with a fresh prior."""

from dataclasses import replace

import pytest
import torch

from workers.bayes.distributions import MetaPrior
from workers.contracts.loss_model import TrialConfig
from workers.contracts.meta_config import MetaConfig
from workers.meta.learning.data import MetaData
from workers.meta.trials.trial import Workshop
from workers.priors.model import fresh_prior, full_macro
from workers.tasks.distribution import ClassImages


@pytest.fixture
def trials() -> TrialConfig:
    return TrialConfig(num_tasks=4, num_archs=3, num_steps=2, batch_size=8, num_support=24, num_query=12)


@pytest.fixture
def data(classes: ClassImages) -> MetaData:
    return MetaData(meta_train=replace(classes), meta_validation=None, learned_from=())


@pytest.fixture
def prior(config: MetaConfig) -> MetaPrior:
    macro = full_macro(config.macro, num_classes=2, image_size=8)
    return fresh_prior(config.search_space, macro, torch.Generator().manual_seed(0), weight_scale=0.1)


@pytest.fixture
def shop(config: MetaConfig, trials: TrialConfig, data: MetaData, prior: MetaPrior) -> Workshop:
    return Workshop.build(config.model_copy(update={"trials": trials}), trials, data, prior)
