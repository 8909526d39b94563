"""Every call of the API, over whatever transport."""

from service.client.adaptations import AdaptationCalls
from service.client.housekeeping import HousekeepingCalls
from service.client.meta_runs import MetaRunCalls
from service.client.priors import PriorCalls
from service.client.uploads import UploadCalls
from service.client.watching import WatchingCalls
from service.client.webhooks import WebhookCalls


class ServiceCalls(
    AdaptationCalls, UploadCalls, MetaRunCalls, PriorCalls, WebhookCalls, HousekeepingCalls, WatchingCalls
):
    """The whole API of a service, as coroutines."""
