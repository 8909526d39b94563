"""One attempt, from its request to its manifest: the function that Ray Train, tests and benchmarks all run."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from search_spaces.registry import SPACES
from search_spaces.spec import Macro
from workers.adapt.adaptation import Adaptation
from workers.adapt.choice import predict
from workers.adapt.evaluate import evaluate
from workers.adapt.plan import check_request, choose_macro
from workers.adapt.publish import publish
from workers.adapt.reporter import Reporter
from workers.adapt.result import Result
from workers.adapt.side import choose_side, possible_sides
from workers.adapt.staging import read_report, stage
from workers.adapt.sync import Group
from workers.bayes.distributions import MetaPrior
from workers.contracts.adaptations import NO_PRIOR, AttemptRequest
from workers.contracts.artifacts import Manifest
from workers.contracts.priors import PriorCard
from workers.priors.model import body_shapes
from workers.priors.registry import PriorRegistry
from workers.priors.tensors import load_prior
from workers.store.protocol import Store
from workers.training.budget import Budget

REQUEST: Final = "request.json"


def run_attempt(
    store: Store, attempt_key: str, group: Group, device: torch.device, *, prompt: Store | None = None
) -> Manifest | None:
    """Adapt the prior to the attempt's dataset and publish the network; return the manifest, on rank 0.

    Args:
        store: Where request, dataset and artifacts lie.
        attempt_key: Prefix of the attempt, without a final slash.
        group: This process's place among those that train together.
        device: To compute on.
        prompt: The same store, for progress and cancels, which the work does not wait for; None: `store`.

    Raises:
        ArchPriorError: Why there is no result; a new attempt would fail the same way, unless it is a `StoreError`.
        CancelledError: `control.json` asked to stop.
    """
    attempt = AttemptRequest.from_stored(store.get_bytes(f"{attempt_key}/{REQUEST}"), REQUEST)
    request = attempt.request
    budget = Budget(max(1.0, request.budget_s - attempt.spent_s))
    reporter = Reporter(prompt or store, attempt_key, budget, active=group.leads)
    reporter.enter("staging", "fetching and decoding the dataset")
    card = _card(store, attempt)
    report = read_report(store, attempt)
    check_request(request, report, card)
    macro = choose_macro(request, report, card)
    prior = None if card is None else _prior(store, card, macro)
    sides = possible_sides(request, macro.image_size, () if card is None else card.resolutions)
    side = choose_side(request, macro, prior, sides, report, device, lambda: budget.remaining_s)
    macro = replace(macro, image_size=int(group.agree(float(side))))
    data = stage(store, attempt, report, macro.image_size, device)

    reporter.enter("searching", "fitting the head and measuring the speed")
    # What trials with fresh weights foretell is of training from scratch.
    reads = card is not None and card.trials is not None and card.trials.config.weights == "inherited"
    findings = card.trials if card is not None and reads else None
    adaptation = Adaptation(attempt, macro, data, prior, group, reporter, budget, findings=findings)
    if group.leads:
        store.put_bytes(f"{attempt_key}/plan.json", adaptation.plan.model_dump_json(indent=2).encode())
    plan = adaptation.plan
    reporter.expect(plan.search_s + plan.choice_s + plan.race_s + plan.train_s + plan.export_s)
    choice = adaptation.run()

    reporter.enter("training", f"training {adaptation.space.format(choice.chosen)}")
    trained = adaptation.train(choice.chosen)
    reporter.enter("exporting", "exporting, loading again and comparing")
    if not group.leads:
        return None
    logits = predict(trained.network, data.test)
    result = Result(
        attempt=attempt,
        adaptation=adaptation,
        choice=choice,
        trained=trained,
        evaluation=evaluate(logits, data.test.labels, data.classes),
        report=report,
        card=card,
    )
    manifest = publish(store, attempt_key, trained.network, data.query, data.classes, result.metrics)
    reporter.enter("done")
    return manifest


def _card(store: Store, attempt: AttemptRequest) -> PriorCard | None:
    prior = attempt.request.prior or NO_PRIOR
    return None if prior == NO_PRIOR else PriorRegistry(store).card(prior)


def _prior(store: Store, card: PriorCard, macro: Macro) -> MetaPrior:
    with tempfile.TemporaryDirectory(prefix="archprior-") as folder:
        path = PriorRegistry(store).fetch(card.id, Path(folder))
        return load_prior(path, SPACES[card.search_space], body_shapes(card.search_space, macro))
