import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.contracts.errors import InvalidPriorError
from workers.contracts.priors import MacroSpec, PriorCard
from workers.priors.check_prior import verdict
from workers.priors.import_check import run_check
from workers.priors.registry import bundled_cards, bundled_folder
from workers.tasks.check_process import CheckFailedError, CheckKilledError

CARD = bundled_cards()["nas_bench_201-v4"]
TENSORS = bundled_folder() / CARD.id / "prior.safetensors"
Change = Callable[[dict[str, Tensor]], object]


@pytest.fixture
def run_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the process that checks run this code instead."""

    def replace(code: str) -> None:
        interpreter = tmp_path / "python"
        interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}"\n')
        interpreter.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(interpreter))

    return replace


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Change], Path]:
    """Returns a function that writes the bundled tensors anew after a change."""

    def write(change: Change) -> Path:
        arrays = load_file(TENSORS)
        change(arrays)
        save_file(arrays, tmp_path / "changed")
        return tmp_path / "changed"

    return write


def refusal(path: Path, *, search_space: str = CARD.search_space, macro: MacroSpec = CARD.macro) -> str:
    """What the check says against tensors, in this process; empty where it says nothing."""
    error = verdict(path, search_space, macro).get("error")
    return str(InvalidPriorError.from_dict(error)) if isinstance(error, dict) else ""


def conv(arrays: dict[str, Tensor]) -> str:
    return next(name for name in arrays if name.startswith("loc/") and arrays[name].ndim == 4)


def test_the_tensors_of_a_prior_pass_in_a_process_of_their_own() -> None:
    run_check(TENSORS, CARD)


def test_tensors_of_another_skeleton_are_refused_in_a_process_of_their_own() -> None:
    wider = CARD.model_copy(update={"macro": MacroSpec(num_channels=CARD.macro.num_channels + 1, num_cells=1)})
    with pytest.raises(InvalidPriorError, match=r"tensor loc/body\."):
        run_check(TENSORS, wider)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("find", [conv, lambda _: "arch_logits"])
def test_values_that_are_not_finite_are_refused(
    changed: Callable[[Change], Path], find: Callable[[dict[str, Tensor]], str], value: float
) -> None:
    path = changed(lambda arrays: arrays[find(arrays)].view(-1)[-1:].fill_(value))
    assert "not finite" in refusal(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: arrays.pop(conv(arrays)), "no such tensor"),
        (lambda arrays: arrays.update({conv(arrays): torch.zeros(1, 2)}), "got '[1, 2]'"),
        (lambda arrays: arrays.update({"loc/body.surprise": torch.zeros(2)}), "body.surprise"),
        (lambda arrays: arrays.pop("arch_logits"), "arch_logits"),
        (lambda arrays: arrays.pop(conv(arrays).replace("loc/", "log_scale/")), "log_scale"),
        (lambda arrays: arrays.update({conv(arrays).replace("loc/", "log_scale/"): torch.zeros(7)}), "log_scale"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(changed: Callable[[Change], Path], change: Change, reason: str) -> None:
    assert reason in refusal(changed(change))


def test_the_tensors_of_another_space_are_refused() -> None:
    assert refusal(TENSORS) == ""
    assert "cells of a darts network" in refusal(TENSORS, search_space="darts")
    deeper = MacroSpec(num_channels=16, num_cells=3)
    assert "tensor arch_logits" in refusal(TENSORS, search_space="darts", macro=deeper)
    assert "unknown search space" in refusal(TENSORS, search_space="enas")


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\xff" * 100, TENSORS.read_bytes()[:-1]])
def test_bytes_that_are_no_tensors_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "data").write_bytes(data)
    assert "cannot be read" in refusal(tmp_path / "data")


@pytest.mark.parametrize("extent", [{"num_channels": 2**60, "num_cells": 1}, {"num_channels": 16, "num_cells": 10**9}])
def test_a_skeleton_that_no_tensors_could_fill_is_refused_before_it_is_built(extent: dict[str, int]) -> None:
    assert "larger than its tensors" in refusal(TENSORS, macro=MacroSpec(**extent))


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", CheckKilledError, "SIGKILL.*Try again"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", InvalidPriorError, "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", InvalidPriorError, "took longer"),
        ("raise KeyError('inside')", CheckFailedError, "log says why"),
    ],
)
def test_a_check_that_ends_without_a_verdict_says_whose_fault_it_is(
    run_instead: Callable[[str], None], code: str, kind: type[Exception], reason: str
) -> None:
    run_instead(code)
    with pytest.raises(kind, match=reason):
        run_check(TENSORS, CARD)


def test_a_check_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.priors.import_check.TIMEOUT_S", 1)
    with pytest.raises(InvalidPriorError, match="took longer than 1 s"):
        run_check(TENSORS, CARD)


def test_a_check_cannot_take_more_memory_than_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.priors.import_check.TORCH_BYTES", 0)
    with pytest.raises((InvalidPriorError, CheckFailedError)):
        run_check(TENSORS, CARD)


def test_a_prior_is_checked_by_the_space_of_its_card() -> None:
    foreign: PriorCard = CARD.model_copy(update={"search_space": "enas"})
    with pytest.raises(InvalidPriorError, match="unknown search space"):
        run_check(TENSORS, foreign)
