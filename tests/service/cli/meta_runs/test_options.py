"""A meta-run's configuration from a file and assignments."""

import json

import pytest

from search_spaces.errors import InvalidOptionError, UnknownNameError
from service.cli.meta_runs.options import dataset_choice, read_config
from workers.contracts.meta_config import MetaConfig


def test_values_are_numbers_words_or_json():
    config = read_config(
        None,
        (
            "num_steps=50",
            "lr=0.02",
            "mode=asynchronous",
            "flip=false",
            "resolutions=[8,16]",
            "resolution_weights=[1,3]",
        ),
    )
    assert (config.num_steps, config.lr, config.mode, config.flip) == (50, 0.02, "asynchronous", False)
    assert (config.resolutions, config.resolution_weights) == ((8, 16), (1.0, 3.0))


def test_an_assignment_changes_what_the_file_says_and_the_rest_follows_the_length(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"num_steps": 5000, "num_slots": 4}))
    config = read_config(path, ("num_steps=100", "num_slots=2", "num_slots=3"))
    assert (config.num_steps, config.num_slots) == (100, 3)
    assert (config.warmup_steps, config.joint_steps) == (60, 95)  # the shares of 100 steps, not of 5000


def test_nothing_given_is_the_default():
    assert read_config(None) == MetaConfig.model_validate({})


@pytest.mark.parametrize("from_file", [False, True])
def test_an_unknown_field_is_answered_with_the_known_ones(tmp_path, from_file):
    path = tmp_path / "config.json"
    path.write_text('{"steps": 5}')
    with pytest.raises(UnknownNameError, match=r"steps.*checkpoint_every.*num_steps.*weight_kl"):
        read_config(path) if from_file else read_config(None, ("steps=5",))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("num_steps", "NAME=VALUE"),
        ("num_steps=0", "num_steps: .*greater than or equal to 1, got 0"),
        ("num_steps=many", "num_steps: .*valid integer.*got 'many'"),
        ("mode=parallel", "mode: .*synchronous"),
        ("lr=NaN", "lr: "),
        ("max_ways=2", "max_ways: at least min_ways"),
    ],
)
def test_a_value_that_cannot_be_names_its_field(assignment, message):
    with pytest.raises(InvalidOptionError, match=message):
        read_config(None, (assignment,))


@pytest.mark.parametrize("content", [None, b"{", b"[1]", b"\xff"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidOptionError, match=r"config\.json"):
        read_config(path)


def test_a_dataset_may_have_a_weight():
    assert (dataset_choice("ds-1").dataset_id, dataset_choice("ds-1").weight) == ("ds-1", None)
    assert (dataset_choice("ds-1:2.5").dataset_id, dataset_choice("ds-1:2.5").weight) == ("ds-1", 2.5)


@pytest.mark.parametrize("text", ["ds-1:", "ds-1:heavy", "ds-1:0", "ds-1:-1"])
def test_a_weight_that_is_none_is_refused(text):
    with pytest.raises(InvalidOptionError, match=f"--dataset {text}: weight"):
        dataset_choice(text)
