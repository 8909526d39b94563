import torch

from workers.bayes.fair_paths import fair_choices

MASK = torch.tensor([[True, True, True, True], [True, False, True, False], [True, False, False, False]])


def path(number: int, seed: int = 0) -> list[int]:
    (choices_E,) = fair_choices(MASK, seed, number).tolist()
    return choices_E


def test_every_option_of_a_decision_has_one_turn_in_each_round() -> None:
    paths = [path(number) for number in range(12)]

    for start in range(0, 12, 4):
        assert sorted(choices[0] for choices in paths[start : start + 4]) == [0, 1, 2, 3]
    for start in range(0, 12, 2):
        assert sorted(choices[1] for choices in paths[start : start + 2]) == [0, 2]
    assert {choices[2] for choices in paths} == {0}


def test_rounds_and_decisions_have_orders_of_their_own() -> None:
    full = torch.ones(2, 6, dtype=torch.bool)
    rounds = [[fair_choices(full, 0, 6 * turn + place)[0].tolist() for place in range(6)] for turn in range(2)]

    orders = {tuple(choices[decision] for choices in found) for found in rounds for decision in range(2)}
    assert len(orders) == 4


def test_a_path_is_a_function_of_seed_and_number() -> None:
    assert [path(number) for number in (3, 5)] == [path(number) for number in (3, 5)]
    assert [path(number) for number in range(8)] != [path(number, seed=1) for number in range(8)]
