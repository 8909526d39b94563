"""`/v1/search-spaces`."""

from http import HTTPStatus

from fastapi import APIRouter

from search_spaces.errors import UnknownNameError, lookup
from search_spaces.registry import SPACES
from search_spaces.spec import SearchSpace
from service.errors import NotFoundError
from service.http.auth import CallerDependency
from service.http.problems import responses
from service.parts import PartsDependency
from service.priors.catalog import PriorCatalog
from service.schemas import SpaceView

router = APIRouter(prefix="/v1/search-spaces", tags=["search spaces"])


@router.get("", summary="List search spaces")
def list_search_spaces(parts: PartsDependency, caller: CallerDependency) -> tuple[SpaceView, ...]:
    """All search spaces, with what is decided in each and among which options."""
    return tuple(_view(space, parts.prior_catalog, caller.owner) for space in SPACES.values())


@router.get("/{name}", summary="Get a search space", responses=responses(HTTPStatus.NOT_FOUND))
def get_search_space(name: str, parts: PartsDependency, caller: CallerDependency) -> SpaceView:
    """One search space."""
    try:
        return _view(lookup(SPACES, name, kind="search space"), parts.prior_catalog, caller.owner)
    except UnknownNameError as error:
        raise NotFoundError(error.what, got=name, expected=error.expected) from error


def _view(space: SearchSpace, priors: PriorCatalog, owner: str) -> SpaceView:
    return SpaceView(
        name=space.name,
        title=space.title,
        decisions=tuple((decision.name, decision.options) for decision in space.decisions),
        num_architectures=space.num_architectures,
        published=space.format(space.published()),
        default_prior=priors.default_for(space.name, owner=owner),
    )
