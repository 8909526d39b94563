"""`archprior priors`: what has been learned so far."""

from service.cli.options import JsonOption, ServerOption
from service.cli.output import print_json, stdout, table
from service.client import Client
from workers.priors.registry import bundled_cards


def priors(server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List the meta-priors that come with the package, or those that a running service knows."""
    if server is None:
        cards = tuple(bundled_cards().values())
    else:
        with Client(server) as client:
            cards = client.priors()
    if as_json:
        print_json(cards)
        return
    listed = table("prior", "search space", "steps", "bytes", "learned from", "mode", numbers=frozenset({2, 3}))
    for card in cards:
        learned_from = ", ".join(f"{source.name} ({len(source.classes)} classes)" for source in card.data)
        listed.add_row(
            card.id, card.search_space, f"{card.num_steps:,}", f"{card.num_bytes:,}", learned_from, card.mode
        )
    stdout().print(listed)
