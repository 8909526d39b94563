"""The parts of a running service, built and ended in one place."""

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request
from sqlalchemy.exc import SQLAlchemyError

from service.adaptations.views import Views
from service.data_dir import claim, identity
from service.datasets.arrivals import Arrivals
from service.datasets.checker import Checker
from service.datasets.contents import Contents
from service.datasets.intake import Intake
from service.datasets.loop import CheckLoop
from service.datasets.sources import Sources
from service.datasets.views import DatasetViews
from service.disk import Disk
from service.errors import ClusterUnavailableError
from service.events.hub import Hub
from service.housekeeping.housekeeper import Housekeeper
from service.housekeeping.loop import HousekeepingLoop
from service.housekeeping.tenure import new_lease
from service.http.turns import MAX_AT_ONCE, Turns
from service.meta_runs.intake import MetaRunIntake
from service.meta_runs.views import MetaRunViews
from service.metrics import DeliveryMetrics, GcMetrics
from service.overview import Overviews
from service.priors.catalog import PriorCatalog
from service.priors.intake import PriorIntake
from service.quotas import Quotas
from service.ray.cluster import Cluster
from service.reconcile.adaptations import AdaptationSteps
from service.reconcile.decisions import Limits
from service.reconcile.executor import Reconciler
from service.reconcile.loop import ReconcileLoop
from service.reconcile.meta_runs import MetaRunSteps
from service.records.adaptations import AdaptationRecords
from service.records.audit import AuditRecords
from service.records.checks import CheckRecords
from service.records.database import Database
from service.records.datasets import DatasetRecords
from service.records.deliveries import DeliveryRecords
from service.records.events import EventRecords
from service.records.housekeeping import HousekeepingRecords
from service.records.keys import KeyRecords
from service.records.lease import CHECKER, RECONCILER, WEBHOOKS, Lease
from service.records.meta_runs import MetaRunRecords
from service.records.priors import PriorRecords
from service.records.webhooks import WebhookRecords
from service.schemas import Health
from service.settings import Settings, no_keys
from service.webhooks.delays import MAX_TRIES
from service.webhooks.delivery import DeliveryLoop
from service.webhooks.sender import Sender
from workers.contracts.errors import StoreError
from workers.store import layout
from workers.store.folder import FolderStore
from workers.store.open import open_store
from workers.store.protocol import Store
from workers.tasks.check_process import Checks
from workers.tasks.limits import ArchiveLimits

LEASE_TTL_S = 15.0
DAY_S = 86_400.0
DOWN = "does not answer; see the service's log"
STOPPED = "stopped by an error; see the service's log"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the routes use.

    Attributes:
        intake_threads: What the intake runs on, so that slow checks of archives take no thread from other requests.
        webhook_trials: Who is trying a webhook, and waits for what becomes of it.
        readiness_threads: What `/readyz` runs on, for which anybody may ask: one that waits takes no thread either.
        job_looks: Who reads a job's log or actors, and waits for Ray.
        job_look_threads: What asks Ray for those runs on: where it is silent, those who wait take no thread either.
        overview_threads: What overviews run on, which wait for Ray and the store, but not for who reads logs.
    """

    settings: Settings
    database: Database
    keys: KeyRecords
    audit: AuditRecords
    store: Store
    cluster: Cluster
    datasets: DatasetRecords
    adaptations: AdaptationRecords
    meta_runs: MetaRunRecords
    prior_catalog: PriorCatalog
    intake: Intake
    arrivals: Arrivals
    prior_intake: PriorIntake
    meta_intake: MetaRunIntake
    intake_threads: CapacityLimiter
    views: Views
    dataset_views: DatasetViews
    meta_views: MetaRunViews
    overviews: Overviews
    loop: ReconcileLoop
    check_loop: CheckLoop
    events: EventRecords
    hub: Hub
    webhooks: WebhookRecords
    deliveries: DeliveryRecords
    delivery_loop: DeliveryLoop
    delivery_metrics: DeliveryMetrics
    housekeeper: Housekeeper
    housekeeping: HousekeepingLoop
    uploads: Disk
    webhook_trials: Turns = field(default_factory=lambda: Turns("a webhook is being tried already", per_owner=1))
    readiness_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    job_looks: Turns = field(default_factory=lambda: Turns("logs or actors are being read already", per_owner=2))
    job_look_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(MAX_AT_ONCE))
    overview_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(8))
    _told: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def readiness(self) -> Health:
        """Return whether every part works. Why records or store do not is in the log only: anybody may ask."""
        parts = {
            "records": self._state("records", self.database.check),
            "store": self._state("store", lambda: self.store.size("readiness")),
            "ray": self._state("ray", self.cluster.check),
            "reconciler": "ok" if self.loop.alive else STOPPED,
            "checker": "ok" if self.check_loop.alive else STOPPED,
            "webhooks": "ok" if self.delivery_loop.alive else STOPPED,
            "housekeeper": "ok" if self.housekeeping.alive else STOPPED,
        }
        return Health(ok=all(state == "ok" for state in parts.values()), parts=parts)

    def _state(self, part: str, check: Callable[[], object]) -> str:
        try:
            check()
        except ClusterUnavailableError as error:
            return str(error)
        except (SQLAlchemyError, StoreError) as error:
            if self._told.get(part) != str(error):  # once, not at every look
                logger.error("%s not ready: %s", part, error)
            self._told[part] = str(error)
            return DOWN
        self._told.pop(part, None)
        return "ok"


@contextmanager
def running(settings: Settings, open_cluster: Callable[[Settings], Cluster]) -> Iterator[Parts]:
    """Yield the parts of a service that runs for the block's time; what it started ends with it.

    Raises:
        DataDirBusyError: Another service has the data folder.
        InvalidOptionError: It would listen beyond this machine, and has no keys.
        ArchPriorError: A part cannot be opened.
    """
    with ExitStack() as stack:
        stack.enter_context(claim(settings.data_dir))
        database = Database(settings.database)
        stack.callback(database.close)
        database.migrate()
        keys = KeyRecords(database)
        if not (settings.may_be_open or keys.exist()):
            raise no_keys(settings.host)
        store = open_store(settings.objects, create=True, serving=True)
        # Nobody waits for those who use this one, and a server may be long silent over a large object or a long list.
        patient_store = open_store(settings.objects)
        check_records = CheckRecords(database)
        if isinstance(store, FolderStore):
            # An upload that may still be completed, or waits for its check, has its parts.
            store.sweep(keep=((layout.upload(one), upload_id) for one, upload_id in check_records.uploads()))
        disk = partial(Disk, reserve_bytes=settings.disk_reserve_bytes)
        uploads = disk(folder=settings.data_dir / "uploads")
        store_disk = disk(folder=store.folder) if isinstance(store, FolderStore) else None
        shutil.rmtree(uploads.folder, ignore_errors=True)  # what a killed service was receiving
        uploads.folder.mkdir()
        quotas = Quotas(
            max_bytes=settings.quota_bytes,
            max_unfinished=settings.quota_unfinished,
            max_arriving=settings.quota_arriving,
        )
        adaptations, datasets = AdaptationRecords(database, quotas), DatasetRecords(database, quotas)
        meta_runs = MetaRunRecords(database, quotas)
        priors = PriorRecords(database)
        prior_catalog = PriorCatalog(priors, store)
        folder = identity(settings.data_dir)

        def leased(name: str) -> Lease:
            lease = Lease(database, name=name, holder=f"{folder}:{secrets.token_hex(8)}", ttl_s=LEASE_TTL_S)
            # The folder is ours alone, so whoever held the lease for it is dead, and a killed service's successor need
            # not wait until the lease runs out.
            lease.end_those_of(folder)
            stack.callback(lease.release)
            return lease

        lease = leased(RECONCILER)
        cluster = open_cluster(settings)
        limits = Limits(
            max_attempts=settings.max_attempts,
            cancel_grace_s=settings.cancel_grace_s,
            stop_grace_s=settings.stop_grace_s,
        )
        reconciler = Reconciler(
            adaptations=AdaptationSteps(records=adaptations, store=store, limits=limits),
            meta_runs=MetaRunSteps(records=meta_runs, datasets=datasets, store=store, limits=limits),
            cluster=cluster,
            lease=lease,
            max_submitted=settings.max_submitted_jobs,
            max_meta_runs=settings.max_meta_runs,
        )
        loop = ReconcileLoop(reconciler, interval_s=settings.reconcile_interval_s)
        # From here on in this order: no new step, then the cluster, which a step may still be starting, then the rest.
        stack.callback(loop.join)
        stack.callback(cluster.close)
        stack.callback(loop.stop)
        loop.start()
        checks = Checks()
        archive_limits = ArchiveLimits(max_archive_bytes=settings.max_upload_bytes)
        sources = Sources(prefixes=settings.source_prefixes)
        checker = Checker(
            records=check_records,
            datasets=datasets,
            store=patient_store,
            contents=Contents(datasets=datasets, store=patient_store),
            sources=sources,
            checks=checks,
            disk=uploads,
            store_disk=store_disk,
            housekeeping=new_lease(database, holder=folder),
            max_bytes=settings.max_dataset_bytes,
            expires_s=settings.upload_expires_s,
        )
        check_loop = CheckLoop(checker, leased(CHECKER))
        # No new check, then the ends of those that run.
        stack.callback(check_loop.join)
        stack.callback(checks.close)
        stack.callback(check_loop.stop)
        check_loop.start()
        deliveries, delivery_metrics = DeliveryRecords(database, max_tries=MAX_TRIES), DeliveryMetrics()
        sender = Sender(allow_private=settings.webhook_private_addresses)
        delivery_loop = DeliveryLoop(deliveries, leased(WEBHOOKS), sender, delivery_metrics)
        stack.callback(delivery_loop.stop)
        delivery_loop.start()
        housekeeper = Housekeeper(
            records=HousekeepingRecords(database),
            datasets=datasets,
            priors=priors,
            store=patient_store,
            new_lease=lambda: new_lease(database, holder=folder),
            retention_s=settings.retention_days * DAY_S,
            metrics=GcMetrics(),
        )
        new_lease(database, holder=folder).end_those_of(folder)  # as above
        housekeeping = HousekeepingLoop(housekeeper, gc_interval_s=settings.gc_interval_s)
        stack.callback(housekeeping.join)
        stack.callback(housekeeping.stop)
        housekeeping.start()
        events = EventRecords(database)
        hub = Hub(events, keys)
        stack.callback(hub.close)
        views = Views(adaptations=adaptations, store=store, cluster=cluster)
        meta_views = MetaRunViews(meta_runs=meta_runs, store=store, cluster=cluster)
        yield Parts(
            settings=settings,
            database=database,
            keys=keys,
            audit=AuditRecords(database),
            store=store,
            cluster=cluster,
            datasets=datasets,
            adaptations=adaptations,
            meta_runs=meta_runs,
            prior_catalog=prior_catalog,
            intake=Intake(
                datasets=datasets,
                adaptations=adaptations,
                contents=Contents(datasets=datasets, store=store),
                priors=prior_catalog,
                limits=archive_limits,
                checks=checks,
            ),
            arrivals=Arrivals(
                datasets=datasets,
                store=store,
                store_disk=store_disk,
                sources=sources,
                max_bytes=settings.max_dataset_bytes,
            ),
            meta_intake=MetaRunIntake(datasets=datasets, meta_runs=meta_runs, priors=prior_catalog),
            prior_intake=PriorIntake(catalog=prior_catalog, checks=checks),
            intake_threads=CapacityLimiter(os.cpu_count() or 1),
            views=views,
            dataset_views=DatasetViews(store=store, expires_s=settings.upload_expires_s),
            meta_views=meta_views,
            overviews=Overviews(
                database=database,
                adaptations=adaptations,
                meta_runs=meta_runs,
                datasets=datasets,
                views=views,
                meta_views=meta_views,
                cluster=cluster,
                data_dir=settings.data_dir,
            ),
            loop=loop,
            check_loop=check_loop,
            events=events,
            hub=hub,
            webhooks=WebhookRecords(database),
            deliveries=deliveries,
            delivery_loop=delivery_loop,
            delivery_metrics=delivery_metrics,
            housekeeper=housekeeper,
            housekeeping=housekeeping,
            uploads=uploads,
        )


def parts_of(request: Request) -> Parts:
    """Return the parts of the service that got this request."""
    parts: Parts = request.app.state.parts
    return parts


PartsDependency = Annotated[Parts, Depends(parts_of)]
