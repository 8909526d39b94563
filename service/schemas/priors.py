"""What `/v1/priors` takes and returns."""

from datetime import datetime

from service.schemas.common import ArtifactView, Page
from workers.contracts.base import Contract
from workers.contracts.priors import PriorCard


class PriorView(Contract):
    """A meta-prior: its card, and how it stands in this service.

    Attributes:
        default: Whether a request of its space that names no prior gets this one.
        files: What can be downloaded.
    """

    card: PriorCard
    bundled: bool
    default: bool
    files: tuple[ArtifactView, ...] = ()


class PriorPage(Page):
    """Meta-priors: the bundled ones first, then the oldest."""

    items: tuple[PriorView, ...]


class PromotionView(Contract):
    """One time that a prior was made the default of its space."""

    search_space: str
    prior_id: str
    promoted_at: datetime
    promoted_by: str


class PromotionPage(Page):
    """Promotions, newest first."""

    items: tuple[PromotionView, ...]
