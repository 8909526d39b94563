"""What the documentation shows of each schema. Built from the schemas themselves, so none can be wrong."""

from datetime import UTC, datetime
from typing import Final

from service.schemas import (
    ActorPage,
    ActorView,
    AdaptationPage,
    AdaptationView,
    AmountView,
    ArtifactView,
    AuditEntry,
    AuditPage,
    ClusterView,
    Comparison,
    DatasetChange,
    DatasetPage,
    DatasetView,
    DeliveryPage,
    DeliveryView,
    EventKind,
    EventPage,
    EventView,
    FailureView,
    GcForm,
    GcItem,
    GcReport,
    Health,
    Links,
    MetaEventPage,
    MetaResult,
    MetaRunLinks,
    MetaRunPage,
    MetaRunView,
    Overview,
    PriorPage,
    PriorView,
    Problem,
    PromotionPage,
    PromotionView,
    Result,
    RunningWork,
    SpaceView,
    UploadPart,
    UploadPartPage,
    UploadView,
    WebhookForm,
    WebhookPage,
    WebhookView,
    WorkLinks,
)
from workers.contracts.adaptations import AdaptationRequest, Candidate, Progress
from workers.contracts.artifacts import CostReport, Interval
from workers.contracts.base import Contract
from workers.contracts.datasets import DatasetReport
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import Counters, DatasetChoice, MetaEvent, MetaProgress, MetaRunRequest
from workers.contracts.priors import LearnedFrom, MacroSpec, PriorCard
from workers.priors.registry import DEFAULTS

_BEGAN: Final = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
_ENDED: Final = datetime(2026, 3, 2, 9, 31, 12, tzinfo=UTC)
_SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_CELL: Final = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|"
_SPACE: Final = "nas_bench_201"
_DATASET: Final = "ds-4f1c09b2a7de"
_PRIOR: Final = DEFAULTS["nas_bench_201"]

_REPORT: Final = DatasetReport(
    classes=("cat", "dog"), num_images=(120, 95), median_size=64, min_size=32, max_size=512, modes={"RGB": 215}
)
_DATASET_VIEW: Final = DatasetView(
    id=_DATASET,
    name="pets",
    sha256=_SHA256,
    num_bytes=1_048_576,
    report=_REPORT,
    created_at=_BEGAN,
    meta_use=True,
    terms="CC BY 4.0",
)
_UPLOAD_PATH: Final = f"/v1/datasets/{_DATASET}"
_UPLOAD: Final = UploadView(
    part_bytes=16_777_216,
    num_parts=128,
    num_arrived=3,
    parts=f"{_UPLOAD_PATH}/parts",
    complete=f"{_UPLOAD_PATH}/complete",
    expires_at=_ENDED,
)
_PART: Final = UploadPart(number=4, num_bytes=16_777_216, href=f"{_UPLOAD_PATH}/parts/4", arrived=False)
_PATH: Final = "/v1/adaptations/ad-451f6941979f"
_DASHBOARD: Final = "http://127.0.0.1:8265"
_ARTIFACT: Final = ArtifactView(
    name="model.onnx",
    num_bytes=690_112,
    sha256=_SHA256,
    media_type="application/octet-stream",
    href=f"{_PATH}/artifacts/model.onnx",
)
_BEST: Final = Candidate(architecture=_CELL, query_accuracy=0.94)
_ADAPTATION: Final = AdaptationView(
    id="ad-451f6941979f",
    state="SUCCEEDED",
    attempt=1,
    request=AdaptationRequest(dataset_id=_DATASET, prior=_PRIOR, max_params=200_000),
    created_at=_BEGAN,
    started_at=_BEGAN,
    finished_at=_ENDED,
    progress=Progress(phase="done", fraction=1.0, elapsed_s=61.5, best=_BEST, updated_at=_ENDED.timestamp()),
    best=_BEST,
    result=Result(
        architecture={"space": _SPACE, "arch": _CELL},
        accuracy=0.93,
        accuracy_interval=Interval(low=0.88, high=0.96),
        num_test=150,
        cost=CostReport(params=170_522, macs=5_485_184),
        timings_s={"total": 61.5},
        verdict="Searching beat the prior's mode by 2.1 points.",
    ),
    artifacts=(_ARTIFACT,),
    links=Links(
        self=_PATH,
        artifacts=f"{_PATH}/artifacts",
        dashboard=f"{_DASHBOARD}/#/jobs/ad-451f6941979f-a1",
        job_id="ad-451f6941979f-a1",
        log=f"{_PATH}/log",
        actors=f"{_PATH}/actors",
    ),
)
_EVENT: Final = EventView(
    work_id="ad-451f6941979f", sequence=2, kind="adaptation.running", at=_BEGAN, data={"attempt": 1}
)
_KINDS: Final[tuple[EventKind, ...]] = ("adaptation.succeeded", "adaptation.failed")
_HOOK: Final = WebhookView(
    id="wh-5d1c0a9be277",
    url="https://lab.example/archprior",
    kinds=_KINDS,
    created_at=_BEGAN,
)
_DELIVERY: Final = DeliveryView(
    id="wd-0b6e3c5fd8a94e21",
    webhook_id="wh-5d1c0a9be277",
    work_id="ad-451f6941979f",
    sequence=3,
    num_tries=1,
    created_at=_ENDED,
    delivered_at=_ENDED,
    last_status=204,
)
_CHOICE: Final = DatasetChoice(dataset_id=_DATASET, weight=2.0)
_META_REQUEST: Final = MetaRunRequest(
    datasets=(_CHOICE,), config=MetaConfig.model_validate({"num_steps": 1000}), parent=_PRIOR
)
_META_PATH: Final = "/v1/meta-runs/mr-3f0c12ab9d77"
_META_RUN: Final = MetaRunView(
    id="mr-3f0c12ab9d77",
    state="RUNNING",
    attempt=1,
    request=_META_REQUEST,
    prior_id="nas_bench_201-3f0c12ab9d77",
    created_at=_BEGAN,
    started_at=_BEGAN,
    progress=MetaProgress(
        phase="learning", step=240, num_steps=1000, fraction=0.24, elapsed_s=63.0, updated_at=_ENDED.timestamp()
    ),
    links=MetaRunLinks(self=_META_PATH, events=f"{_META_PATH}/events", artifacts=f"{_META_PATH}/artifacts"),
)
_ACTOR: Final = ActorView(
    id="8a1f3c0d5b7e9a2c4d6f01020000",
    name="mr-3f0c12ab9d77-a1 worker-1",
    kind="GradientWorker",
    state="ALIVE",
    pid=4711,
    dashboard=f"{_DASHBOARD}/#/actors/8a1f3c0d5b7e9a2c4d6f01020000",
)
_CPUS: Final = AmountView(total=8, used=5)
_CLUSTER: Final = ClusterView(
    reachable=True,
    num_nodes=3,
    cpus=_CPUS,
    gpus=AmountView(total=1, used=0),
    dashboard=_DASHBOARD,
)
_FAILURE: Final = FailureView(
    kind="dataset",
    id="ds-0b6e3c5fd8a9",
    name="holiday.zip",
    at=_BEGAN,
    code="invalid_dataset",
    message="Not a zip",
    links=WorkLinks(self="/v1/datasets/ds-0b6e3c5fd8a9"),
)
_PROMOTION: Final = PromotionView(search_space=_SPACE, prior_id=_PRIOR, promoted_at=_BEGAN, promoted_by="local")
_PRIOR_VIEW: Final = PriorView(
    card=PriorCard(
        id=_PRIOR,
        search_space=_SPACE,
        macro=MacroSpec(num_channels=16, num_cells=1),
        sha256=_SHA256,
        num_bytes=812_344,
        mode=_CELL,
        resolutions=(16, 32),
        num_steps=20_000,
        inherits="weights of the stem and of every op",
        command=f"archprior meta-train --data classes.npz --out {_PRIOR}",
        config={"num_steps": 20_000},
        data=(LearnedFrom(name="classes", sha256=_SHA256, terms="CC BY 4.0", classes=("cat", "dog")),),
        curves={"loss": ((0, 2.3), (20_000, 0.9))},
        created_at="2026-02-01T08:00:00+00:00",
        versions={"torch": "2.14.1"},
    ),
    bundled=True,
    default=True,
    files=(
        ArtifactView(
            name="card.json",
            num_bytes=4096,
            sha256=_SHA256,
            media_type="application/json",
            href=f"/v1/priors/{_PRIOR}/files/card.json",
        ),
    ),
)

EXAMPLES: Final[tuple[Contract, ...]] = (
    _DATASET_VIEW,
    DatasetPage(items=(_DATASET_VIEW,)),
    DatasetChange(meta_use=True, terms="CC BY 4.0"),
    _UPLOAD,
    _PART,
    UploadPartPage(items=(_PART,), next_after=4),
    _ARTIFACT,
    _ADAPTATION,
    AdaptationPage(items=(_ADAPTATION,), next_cursor="1772443800.0:ad-451f6941979f"),
    _META_REQUEST,
    _META_RUN,
    MetaRunPage(items=(_META_RUN,)),
    MetaResult(
        prior_id="nas_bench_201-3f0c12ab9d77", step=1000, complete=True, counters=Counters(slots=1000), data_wait=0.02
    ),
    MetaEventPage(
        attempt=1,
        items=(MetaEvent(sequence=7, at=_ENDED.timestamp(), kind="checkpoint", step=240, message="step 240 is kept"),),
        next_after=7,
    ),
    Comparison(priors=(_PRIOR, "nas_bench_201-3f0c12ab9d77"), datasets=(DatasetChoice(dataset_id=_DATASET),)),
    _PRIOR_VIEW,
    PriorPage(items=(_PRIOR_VIEW,)),
    _ACTOR,
    ActorPage(job_id="mr-3f0c12ab9d77-a1", dashboard=f"{_DASHBOARD}/#/jobs/02000000/actors", items=(_ACTOR,)),
    _CLUSTER,
    _CPUS,
    _FAILURE,
    Overview(
        at=_ENDED,
        cluster=_CLUSTER,
        counts={"adaptation": {"QUEUED": 2, "RUNNING": 1, "CANCELLING": 0}, "meta-run": {"RUNNING": 1}},
        running=(
            RunningWork(
                kind="meta-run",
                id="mr-3f0c12ab9d77",
                state="RUNNING",
                attempt=1,
                phase="learning",
                fraction=0.24,
                eta_s=199.5,
                links=WorkLinks(self=_META_PATH, log=f"{_META_PATH}/log", actors=f"{_META_PATH}/actors"),
            ),
        ),
        failures=(_FAILURE,),
        free_bytes=31_200_000_000,
    ),
    _PROMOTION,
    PromotionPage(items=(_PROMOTION,), next_cursor="7"),
    SpaceView(
        name=_SPACE,
        title="NAS-Bench-201 (Dong and Yang, 2020)",
        decisions=(("edge 0 to 1", ("none", "skip_connect", "nor_conv_3x3")),),
        num_architectures=15_284,
        published="|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|",
        default_prior=_PRIOR,
    ),
    AuditPage(
        items=(
            AuditEntry(
                at=_ENDED,
                owner="vision",
                key_id="5b1f09c2a7de",
                request_id="c0ffee12c0ffee12",
                action="cancel_adaptation",
                path=f"{_PATH}/cancel",
                status=202,
            ),
        ),
    ),
    GcForm(apply=True),
    GcReport(
        applied=True,
        items=(
            GcItem(
                kind="attempt",
                what="adaptations/ad-451f6941979f/attempts/1",
                num_objects=3,
                num_bytes=1_402_112,
                why="attempt 1 of 2 left it",
            ),
        ),
        num_items=1,
        num_bytes=1_402_112,
    ),
    Health(
        ok=True,
        parts=dict.fromkeys(("records", "store", "ray", "reconciler", "checker", "webhooks", "housekeeper"), "ok"),
    ),
    EventPage(items=(_EVENT,), next_after=2),
    _EVENT,
    WebhookForm(url=_HOOK.url, kinds=_KINDS),
    _HOOK,
    WebhookPage(items=(_HOOK,)),
    _DELIVERY,
    DeliveryPage(items=(_DELIVERY,)),
    Problem(
        title="No such adaptation",
        status=404,
        detail="Got ad-000000000000",
        instance="/v1/adaptations/ad-000000000000",
        code="not_found",
        todo="GET /v1/adaptations lists those there are.",
    ),
)
"""One of each schema, whose class names it in the document."""
