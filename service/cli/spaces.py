"""`archprior spaces`: what can be searched."""

from search_spaces.registry import SPACES
from search_spaces.spec import SearchSpace
from service.cli.options import JsonOption
from service.cli.output import print_json, stdout, table
from service.schemas import SpaceView
from workers.priors.registry import DEFAULTS, bundled_cards


def spaces(as_json: JsonOption = False) -> None:
    """List the search spaces: their decisions, their options, their size, the prior that comes with them."""
    views = tuple(_view(space) for space in SPACES.values())
    if as_json:
        print_json(views)
        return
    listed = table(
        "search space", "decisions", "options", "architectures", "bundled prior", "", numbers=frozenset({1, 3})
    )
    for view in views:
        options = dict.fromkeys(option for _, names in view.decisions for option in names)
        listed.add_row(
            view.name,
            str(len(view.decisions)),
            ", ".join(options),
            f"{view.num_architectures:,.0f}" if view.num_architectures < 1e9 else f"{view.num_architectures:.1e}",
            view.default_prior or "none",
            view.title,
        )
    stdout().print(listed)


def _view(space: SearchSpace) -> SpaceView:
    default = DEFAULTS.get(space.name)
    return SpaceView(
        name=space.name,
        title=space.title,
        decisions=tuple((decision.name, decision.options) for decision in space.decisions),
        num_architectures=space.num_architectures,
        published=space.format(space.published()),
        default_prior=default if default in bundled_cards() else None,
    )
