"""Trials in the store: what was kept is read again by the next attempt, and nothing else is."""

import logging

import pytest

from workers.bayes.distributions import MetaPrior
from workers.contracts.errors import NewerFormatError
from workers.meta.checkpoints import Checkpoints
from workers.meta.flat import Flat, pack
from workers.meta.trials.kept import KeptTrials, TaskTrials
from workers.meta.trials.trial import Trial
from workers.store.folder import FolderStore
from workers.store.protocol import Store

PREFIX = "meta-runs/mr_1/checkpoints/trials"
# As version 1 writes it.
STORED = (
    '{"schema_version":1,"prior_sha256":"5","trials":[{"task":3,"number":1,"architecture":"x","dataset":0,'
    '"description":{"ways":0.5},"num_steps":9,"one_shot":0.75,"loss":null,"accuracy":0.25}]}'
)


@pytest.fixture
def store(tmp_path) -> Store:
    return FolderStore(tmp_path / "store", create=True)


@pytest.fixture
def weights(prior: MetaPrior) -> Flat:
    return pack(prior.to_arrays())


def trial(task: int, number: int) -> Trial:
    return Trial(
        task=task, number=number, architecture="x", dataset=0, description={"ways": 0.1 + task}, num_steps=2,
        one_shot=1 / 3, loss=0.1 * number, accuracy=0.5,
    )  # fmt: skip


def test_what_is_kept_is_read_bit_for_bit_and_added_to(store: Store, weights: Flat) -> None:
    made = [trial(task, number) for task, number in ((0, 1), (11, 0), (0, 0), (2, 0))]
    kept = KeptTrials(store, PREFIX, weights)
    assert kept.read() == {}
    for one in made[:3]:
        kept.add(one)
    again = KeptTrials(store, PREFIX, weights)
    assert again.read() == {(one.task, one.number): one for one in made[:3]}
    again.add(made[3])
    again.add(trial(0, 2))
    expected = {(one.task, one.number): one for one in (*made, trial(0, 2))}
    assert KeptTrials(store, PREFIX, weights).read() == expected
    assert len(list(store.list(PREFIX))) == 3, "one object a task"
    assert Checkpoints(store, "meta-runs/mr_1/checkpoints").steps() == (), "they lie beside checkpoints, but are none"


def test_trials_of_other_weights_do_not_count(store: Store, weights: Flat) -> None:
    KeptTrials(store, PREFIX, weights).add(trial(0, 0))
    other = Flat(weights.layout, weights.values * 2)
    kept = KeptTrials(store, PREFIX, other)
    assert kept.read() == {}
    kept.add(trial(0, 1))
    assert list(KeptTrials(store, PREFIX, other).read()) == [(0, 1)]


def test_what_is_damaged_is_passed_over_with_a_warning(
    store: Store, weights: Flat, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptTrials(store, PREFIX, weights)
    kept.add(trial(0, 0))
    kept.add(trial(1, 0))
    store.put_bytes(f"{PREFIX}/00000000.json", b'{"prior')
    with caplog.at_level(logging.WARNING, logger="archprior.meta"):
        assert list(KeptTrials(store, PREFIX, weights).read()) == [(1, 0)]
    assert "00000000.json" in caplog.text


def test_version_1_is_read_and_written_back_unchanged_and_a_newer_one_is_refused(store: Store, weights: Flat) -> None:
    assert TaskTrials.from_stored(STORED.encode(), "a file").model_dump_json() == STORED
    store.put_bytes(f"{PREFIX}/00000003.json", STORED.replace('version":1', 'version":2').encode())
    with pytest.raises(NewerFormatError, match="newer ArchPrior"):
        KeptTrials(store, PREFIX, weights).read()
