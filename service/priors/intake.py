"""From an upload to a prior of this service. Nothing is kept of what is refused."""

from dataclasses import dataclass
from typing import Final

from pydantic import Field

from search_spaces.errors import lookup
from search_spaces.registry import SPACES
from service.errors import InvalidRequestError
from service.http.fields import parse_fields
from service.http.uploads import Body
from service.priors.catalog import PriorCatalog
from service.schemas import PriorView
from workers.contracts.base import Contract
from workers.contracts.errors import InvalidPriorError
from workers.contracts.priors import PRIOR_ID
from workers.priors.import_check import run_check
from workers.priors.registry import parse_card
from workers.tasks.check_process import Checks

CARD_FILE: Final = "card"
TENSORS_FILE: Final = "tensors"


class PriorFields(Contract):
    """What a form may say of the prior that it brings."""

    id: str | None = Field(None, pattern=f"^{PRIOR_ID}$", description="Absent: the one that its card names.")


@dataclass(frozen=True, kw_only=True)
class PriorIntake:
    """Checks the priors that come in, and keeps those that are good.

    Attributes:
        catalog: Where they go.
        checks: The checks of uploads that run.
    """

    catalog: PriorCatalog
    checks: Checks

    def add(self, body: Body, *, owner: str) -> tuple[PriorView, bool]:
        """Return the prior that a body holds, and whether it is new: the same prior is recorded once.

        Raises:
            InvalidRequestError: The body lacks a file, or holds fields that are not known.
            InvalidPriorError: The card cannot be read, or the tensors are not those that it tells of.
            ConflictError: Another prior bears its id.
        """
        fields = parse_fields(PriorFields, body.fields)
        if not {CARD_FILE, TENSORS_FILE} <= body.uploads.keys():
            expected = f"card.json as field {CARD_FILE}, prior.safetensors as field {TENSORS_FILE}"
            raise InvalidRequestError("the form lacks a file", expected=expected)
        document, tensors = body.uploads[CARD_FILE], body.uploads[TENSORS_FILE]
        card = parse_card(document.path.read_bytes(), "that came along", any_id=True)
        if fields.id is not None:
            card = card.model_copy(update={"id": fields.id})
        lookup(SPACES, card.search_space, kind="search space")
        if (tensors.sha256, tensors.num_bytes) != (card.sha256, card.num_bytes):
            raise InvalidPriorError(
                "the tensors are not those of the card",
                got=f"sha256 {tensors.sha256}",
                expected=f"sha256 {card.sha256}",
            )
        if not self.catalog.holds(card, owner=owner):
            run_check(tensors.path, card, self.checks)
        is_new = self.catalog.add(card, tensors.path, owner=owner)
        return self.catalog.view(card.id, owner=owner), is_new
