import torch

from search_spaces.architecture import Architecture
from workers.adapt.choice import Score, choose

MODE, OTHER = Architecture("nas_bench_201", (3, 1, 3, 1, 3, 3)), Architecture("nas_bench_201", (3, 3, 3, 3, 3, 3))


def scored(arch: Architecture, mean: float, spread: float, number: int = 400) -> Score:
    noise = torch.randn(number, generator=torch.Generator().manual_seed(arch.choices[1]))
    return Score(architecture=arch, source="test", losses_N=mean + spread * (noise - noise.mean()), accuracy=0.5)


def test_a_clearly_better_candidate_is_chosen() -> None:
    choice = choose(MODE, [scored(MODE, 1.0, 0.1), scored(OTHER, 0.8, 0.1)], are_raced=False)
    assert (choice.chosen, choice.searching_helped) == (OTHER, True)


def test_a_mode_that_diverged_loses_to_one_that_did_not() -> None:
    choice = choose(MODE, [scored(MODE, float("nan"), 0.1), scored(OTHER, 3.0, 0.1)], are_raced=True)
    assert (choice.chosen, choice.searching_helped) == (OTHER, True)
    assert "diverged" in choice.verdict


def test_a_candidate_within_the_noise_loses_to_the_mode_and_the_verdict_says_so() -> None:
    choice = choose(MODE, [scored(MODE, 1.0, 3.0), scored(OTHER, 0.95, 3.0)], are_raced=False)
    assert (choice.chosen, choice.searching_helped) == (MODE, False)
    assert "brought nothing" in choice.verdict


def test_without_a_prior_the_best_candidate_is_taken() -> None:
    choice = choose(None, [scored(MODE, 1.0, 0.1), scored(OTHER, 0.99, 0.1)], are_raced=False)
    assert (choice.chosen, choice.searching_helped) == (OTHER, None)


def test_scores_are_reported_best_first() -> None:
    choice = choose(MODE, [scored(MODE, 1.0, 0.1), scored(OTHER, 0.8, 0.1)], are_raced=False)
    assert [score.architecture for score in choice.scores] == [OTHER, MODE]


def test_of_many_equals_that_were_only_scored_hardly_ever_one_seems_better_than_the_mode() -> None:
    generator = torch.Generator().manual_seed(0)
    helped = 0
    for _ in range(100):
        losses = 1.0 + torch.randn(64, 300, generator=generator)
        archs = [
            MODE,
            *(
                Architecture("nas_bench_201", (3, number % 5, number // 5 % 5, 3, number // 25, 3))
                for number in range(63)
            ),
        ]
        scores = [
            Score(architecture=arch, source="test", losses_N=row, accuracy=0.5)
            for arch, row in zip(archs, losses, strict=True)
        ]
        helped += bool(choose(MODE, scores, are_raced=False).searching_helped)
    # Bonferroni's bound is the chance of one standard error, 16 in 100; three deviations of that are 11.
    assert helped <= 27


def test_among_raced_candidates_the_least_loss_wins_and_the_verdict_says_by_how_much() -> None:
    choice = choose(MODE, [scored(MODE, 1.0, 3.0), scored(OTHER, 0.95, 3.0)], are_raced=True)
    assert (choice.chosen, choice.searching_helped) == (OTHER, True)
    assert "standard errors" in choice.verdict
