"""`/v1/priors`."""

from http import HTTPStatus

from fastapi import APIRouter

from search_spaces.errors import UnknownNameError
from service.errors import NotFoundError
from service.parts import PartsDependency
from service.problems import responses
from workers.contracts.priors import PriorCard

router = APIRouter(prefix="/v1/priors", tags=["priors"])


@router.get("", summary="List meta-priors")
def list_priors(parts: PartsDependency) -> tuple[PriorCard, ...]:
    """The cards of all meta-priors, the bundled ones first."""
    return parts.priors.list()


@router.get("/{prior_id}", summary="Get a meta-prior's card", responses=responses(HTTPStatus.NOT_FOUND))
def get_prior(prior_id: str, parts: PartsDependency) -> PriorCard:
    """What a meta-prior is, what it learned from, how to make it again."""
    try:
        return parts.priors.card(prior_id)
    except UnknownNameError as error:
        raise NotFoundError(error.what, got=prior_id, expected=error.expected) from error
