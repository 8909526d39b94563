"""Every stored record is read back as version 1 wrote it, and a newer version is refused."""

import json

import pytest
from pydantic import ValidationError

from workers.contracts.adaptations import AttemptRequest, Control, Failure, Plan, Progress
from workers.contracts.artifacts import MEDIA_TYPES, Manifest, Metrics
from workers.contracts.base import StoredContract
from workers.contracts.datasets import DatasetFindings, DatasetReport
from workers.contracts.errors import NewerFormatError
from workers.contracts.meta_config import MetaConfig
from workers.contracts.meta_runs import (
    CheckpointManifest,
    MetaAttemptRequest,
    MetaControl,
    MetaEvents,
    MetaManifest,
    MetaMetrics,
    MetaProgress,
)
from workers.contracts.priors import PriorCard

META_CONFIG = """{"schema_version":1,"search_space":"nas_bench_201","macro":{"skeleton":"cifar","num_channels":16,
        "num_cells":1},"architectures":[],"seed":0,"num_steps":2000,"warmup_steps":1200,"joint_steps":1900,"mode":"synchronous",
        "max_staleness":4,"staleness_discount":0.9,"num_slots":1,"rule":"first_order",
        "estimator":"score_function","family":"delta","weighting":"task","resolutions":[16],
        "resolution_weights":[1.0],"min_ways":5,"max_ways":20,"num_examples":[20,5000],"joint_batch":128,
        "path_sampling":"independent","mode_share":0.0,"choice_share":0.0,"label_smoothing":0.0,"num_support":128,
        "num_query":128,"num_inner_steps":4,"inner_lr":0.01,"inner_head_lr":0.1,"inner_arch_lr":0.0,
        "inner_scale_lr":0.0,"num_arch_samples":2,"temperature":1.0,"weight_kl":0.0,"arch_kl":0.0,
        "inner_weight_kl":0.0,"inner_arch_kl":0.0,"weight_scale":0.1,"lr":0.1,"muon_lr":0.0,
        "lr_rise_steps":200,"momentum":0.9,"weight_decay":0.0001,"arch_lr":0.02,"arch_entropy":0.0,"clip":5.0,"flip":true,"precision":"float32",
        "trials":null,"evaluate_every":500,"checkpoint_every":500}"""

# Of a configuration, as they stand in it; older ones lack them.
NEWER_OPTIONS = (
    '"architectures":[],',
    '"path_sampling":"independent","mode_share":0.0,"choice_share":0.0,"label_smoothing":0.0,',
    '"muon_lr":0.0,',
    '"arch_entropy":0.0,',
    '"trials":null,',
)

META_DATASET = """{"dataset_id":"d","name":"n","sha256":"0","archive_key":"a","report_key":"r","weight":2.0,
        "terms":"free","meta_train":["a","b"],"meta_validation":["c","d"],"meta_test":["e"]}"""

META_REQUEST = (
    """{"kind":"learn","name":null,"datasets":[{"dataset_id":"d","weight":2.0,"meta_validation":["c","d"],
        "meta_test":["e"]}],"config":"""
    + META_CONFIG
    + ""","prior_id":null,"parent":"p","priors":[],"num_tasks":20,"max_workers":null,"cpus_per_worker":1,
        "use_gpu":null,"budget_s":60.0}"""
)

REQUEST_BEFORE_GIVEN = """{"dataset_id":"d","name":null,"search_space":"nas_bench_201","prior":"none","search":"adapt",
        "budget_s":60.0,"max_params":null,"max_macs":null,"resolution":null,"num_workers":1,"seed":0}"""

REQUEST = REQUEST_BEFORE_GIVEN.replace('"budget_s"', '"architecture":null,"budget_s"').replace(
    '"num_workers"', '"num_channels":null,"num_workers"'
)

METRICS_BEFORE_CARDS = (
    """{"schema_version":1,"adaptation_id":"a","attempt":1,"request":"""
    + REQUEST_BEFORE_GIVEN
    + ""","architecture":"x","prior":"none","accuracy":0.5,
        "accuracy_interval":{"low":0.25,"high":0.75},"per_class_accuracy":{"a":0.5},"num_train":4,"num_query":2,
        "num_test":2,"resolution":16,"cost":{"params":9,"macs":99},"candidates":[{"architecture":"x",
        "query_accuracy":0.5,"query_loss":1.0,"params":9,"macs":99,"source":"s","chosen":true}],
        "searching_helped":null,"verdict":"v","budget_note":"","timings_s":{"total":5.0},
        "series":{"train_loss":[[1,2.0,3.0]]},"max_reload_difference":{"model.onnx":0.0},"skipped_images":0,
        "dataset_sha256":"0","seed":0,"plan":{"num_classes":2},"versions":{"torch":"2"}}"""
)

# Of an attempt that left nine files: there was no model.pt2, predict.py or card.md.
MANIFEST_OF_NINE = """{"schema_version":1,"adaptation_id":"a","attempt":1,"artifacts":[
        {"name":"architecture.json","num_bytes":2,"sha256":"0","media_type":"application/json"},
        {"name":"weights.safetensors","num_bytes":2,"sha256":"0","media_type":"application/octet-stream"},
        {"name":"model.onnx","num_bytes":2,"sha256":"0","media_type":"application/octet-stream"},
        {"name":"preprocessing.json","num_bytes":2,"sha256":"0","media_type":"application/json"},
        {"name":"labels.json","num_bytes":2,"sha256":"0","media_type":"application/json"},
        {"name":"metrics.json","num_bytes":2,"sha256":"0","media_type":"application/json"},
        {"name":"cell.svg","num_bytes":2,"sha256":"0","media_type":"image/svg+xml"},
        {"name":"curves.svg","num_bytes":2,"sha256":"0","media_type":"image/svg+xml"},
        {"name":"report.md","num_bytes":2,"sha256":"0","media_type":"text/markdown; charset=utf-8"}]}"""

PLAN_BEFORE_GIVEN = """{"schema_version":1,"search_space":"nas_bench_201","prior":"none","search":"adapt","seed":0,
        "skeleton":"cifar","num_channels":16,"num_cells":1,"num_classes":10,"resolution":32,"early_resolution":16,
        "num_train":5,"num_query":5,"num_test":5,"num_workers":1,"batch_size":64,"flip":true,"num_search_steps":1,
        "choice_every":4,"num_arch_samples":4,"num_candidates":3,"race_steps":3,"max_train_steps":9,"search_s":1.0,"choice_s":1.0,"race_s":1.0,
        "train_s":1.0,"export_s":1.0,"max_params":null,"max_macs":null}"""


def attempt_of(request: str) -> str:
    """An attempt's request, as it is stored."""
    return f"""{{"schema_version":1,"adaptation_id":"a","attempt":1,"request":{request},
        "dataset_key":"datasets/0/archive.zip","dataset_sha256":"0","spent_s":0.0}}"""


GOLDEN: dict[type[StoredContract], str] = {
    CheckpointManifest: (
        """{"schema_version":1,"step":4,"config":"""
        + META_CONFIG
        + ""","class_names":["a","b"],"adjustments":[{"step":3,"what":"batch_divisor","value":2,"why":"w"}],
        "files":[{"name":"metrics.json","num_bytes":2,"sha256":"0","media_type":"application/json"}]}"""
    ),
    MetaAttemptRequest: (
        """{"schema_version":1,"meta_run_id":"m","attempt":2,"request":"""
        + META_REQUEST
        + ""","datasets":["""
        + META_DATASET
        + """],"prior_id":"p2","spent_s":3.0}"""
    ),
    MetaConfig: META_CONFIG,
    MetaControl: """{"schema_version":1,"desired":"stop","max_workers":0}""",
    MetaEvents: """{"schema_version":1,"events":[{"sequence":1,"at":1.0,"kind":"judged","step":4,"message":"m",
        "data":{"after 0 steps":0.5}}]}""",
    MetaManifest: """{"schema_version":1,"meta_run_id":"m","attempt":1,"prior_id":"p","step":4,"complete":false,
        "artifacts":[{"name":"metrics.json","num_bytes":2,"sha256":"0","media_type":"application/json"}]}""",
    MetaMetrics: (
        """{"schema_version":1,"meta_run_id":"m","attempt":1,"request":"""
        + META_REQUEST
        + ""","prior_id":"p","complete":true,"num_steps":4,"num_trials":8,
        "scores":[{"prior_id":"p","accuracy":{"0":0.5},
        "interval":{"0":0.1},"tasks":{"0":[0.4,0.6]}}],"counters":{"slots":8,"not_finite":0,"stale":1,
        "duplicate":0,"backups":0,"lost_workers":0,"recomputed_steps":0},"adjustments":[{"step":3,
        "what":"batch_divisor","value":2,"why":"w"}],"data_wait":0.1,"series":{"loss":[[1,2.0]]},
        "seconds":{"learning":3.0},"datasets":["""
        + META_DATASET
        + """],"versions":{"torch":"2"}}"""
    ),
    MetaProgress: """{"schema_version":1,"phase":"learning","step":4,"num_steps":9,"num_tried":3,"num_trials":8,
        "fraction":0.5,"elapsed_s":3.0,
        "eta_s":3.0,"loss":2.0,"gradient_norms":{"loc":1.0},"entropies":[1.0],"slots_per_s":1.5,"staleness":0.5,
        "data_wait":0.1,"workers":[{"id":"w","state":"busy","node":"n","pid":1,"device":"CPU","actor_id":"a",
        "doing":"slot","num_done":3}],"max_workers":2,"counters":{"slots":8,"not_finite":0,"stale":0,
        "duplicate":0,"backups":0,"lost_workers":0,"recomputed_steps":0},"adjustments":[{"step":3,
        "what":"batch_divisor","value":2,"why":"w"}],"checkpoint_step":2,"series":{"loss":[[1,2.0,3.0]]},
        "message":"m","updated_at":1.0}""",
    PriorCard: (
        """{"schema_version":1,"id":"p","search_space":"nas_bench_201","macro":{"skeleton":"cifar",
        "num_channels":16,"num_cells":1},"sha256":"0","num_bytes":2,"mode":"x","resolutions":[16],"num_steps":4,
        "inherits":"i","command":"c","config":{"seed":0},"data":[{"name":"n","sha256":"0","terms":"t",
        "classes":["a"]}],"curves":{"loss":[[1,2.0]]},"created_at":"2026-01-01T00:00:00+00:00",
        "versions":{"torch":"2"},"parent":"q","meta_run_id":"m","adjustments":["a"],"trials":{"config":{"num_tasks":4,
        "num_archs":8,"num_steps":9,"num_steps_shares":[1.0],"length":"steps","weights":"fresh","batch_size":64,"num_support":4000,
        "num_query":600},"num_trials":32,"flip":false,"chooses":{"options":"""
        + json.dumps([[0.0, 0.5, -0.5, 0.0, 0.0]] * 6)
        + ""","traits":{"longest":1.0,"shortest":1.0,"log_params":-1.0,"log_macs":-1.0},"context":{"color":{
        "longest":1.0,"shortest":0.0,"log_params":0.0,"log_macs":0.0}},"context_mean":{"images_per_class":0.5,"ways":0.0,
        "resolution":0.0,"color":0.25,"detail":0.25,"separability":0.5,"training_steps":0.0},"one_shot":null,"noise":0.5,
        "log_evidence":2.0},"ranks":null}}"""
    ),
    AttemptRequest: attempt_of(REQUEST),
    Control: """{"schema_version":1,"desired":"cancel"}""",
    DatasetFindings: """{"schema_version":1,"num_duplicates":2,"duplicates":[["a/1.png","b/1.png"]],"across_classes":1,
        "across_splits":0,"near_empty":{"a":3},"suggested_split":{"train":5,"val":1,"test":1},"thumbnails":{"side":64,
        "columns":4,"classes":["a","b"]}}""",
    DatasetReport: """{"schema_version":1,"classes":["a","b"],"num_images":[3,4],"splits":{"train":7},"median_size":8,
        "min_size":8,"max_size":9,"modes":{"L":7},"skipped":[{"path":"a/1.png","reason":"truncated"}]}""",
    Failure: """{"schema_version":1,"code":"cancelled","what":"w","got":"","expected":"","todo":""}""",
    Manifest: """{"schema_version":1,"adaptation_id":"a","attempt":1,"artifacts":[{"name":"labels.json","num_bytes":2,
        "sha256":"0","media_type":"application/json"}]}""",
    Metrics: METRICS_BEFORE_CARDS.replace(REQUEST_BEFORE_GIVEN, REQUEST).removesuffix("}")
    + ""","prior_data":{"n":"t"},"nll":0.7,"calibration_error":0.1,
        "num_learned":5,"repeats_left_out":1,"repeats_in_test":2}""",
    Plan: PLAN_BEFORE_GIVEN.replace('"seed"', '"architecture":null,"precision":"bfloat16","seed"'),
    Progress: """{"schema_version":1,"phase":"training","fraction":0.5,"elapsed_s":3.0,"eta_s":3.0,
        "phases_s":{"staging":1.0},"step":4,"best":{"architecture":"x","query_accuracy":0.5},
        "series":{"train_loss":[[1,2.0,3.0]]},"message":"","updated_at":1.0}""",
}


@pytest.mark.parametrize("schema", GOLDEN, ids=lambda schema: schema.__name__)
def test_version_1_is_read_and_written_back_unchanged(schema: type[StoredContract]) -> None:
    document = json.loads(GOLDEN[schema])
    assert schema.model_validate_json(GOLDEN[schema]).model_dump(mode="json") == document


@pytest.mark.parametrize("schema", GOLDEN, ids=lambda schema: schema.__name__)
def test_a_newer_version_and_an_unknown_field_are_refused(schema: type[StoredContract]) -> None:
    document = json.loads(GOLDEN[schema])
    for change in ({"schema_version": 2}, {"surprise": 1}):
        with pytest.raises(ValidationError):
            schema.model_validate({**document, **change})
    with pytest.raises(NewerFormatError, match=r"a file was written by a newer ArchPrior: got 'format version 2'"):
        schema.from_stored(json.dumps({**document, "schema_version": 2}).encode(), "a file")


def test_every_stored_record_of_the_contracts_is_among_the_golden() -> None:
    known = {schema for schema in StoredContract.__subclasses__() if schema.__module__.startswith("workers.contracts")}
    assert known == GOLDEN.keys()


def test_a_newer_record_inside_another_is_told_of_the_file() -> None:
    document = json.loads(GOLDEN[CheckpointManifest])
    document["config"]["schema_version"] = 3

    with pytest.raises(NewerFormatError, match=r"manifest\.json was written by a newer.*version 3.*at most 1.*Update"):
        CheckpointManifest.from_stored(json.dumps(document).encode(), "manifest.json")


def test_what_is_damaged_is_not_taken_for_newer() -> None:
    for data in (b"", b"[]", b'{"schema_version": 0}', b'{"schema_version": 1.5}'):
        with pytest.raises(ValidationError):
            DatasetReport.from_stored(data, "report.json")


def test_a_configuration_from_before_its_newer_options_is_read_as_one_without_them() -> None:
    before = META_CONFIG
    for option in NEWER_OPTIONS:
        assert option in before
        before = before.replace(option, "")

    assert MetaConfig.model_validate_json(before) == MetaConfig.model_validate_json(META_CONFIG)


def test_a_configuration_of_when_tasks_used_all_images_is_read_as_one_that_does() -> None:
    before = META_CONFIG.replace('"num_examples":[20,5000],', "")

    assert MetaConfig.model_validate_json(before).num_examples is None


def test_a_manifest_of_an_attempt_that_left_fewer_files_is_read() -> None:
    manifest = Manifest.model_validate_json(MANIFEST_OF_NINE)

    assert len(manifest.artifacts) == 9
    assert {artifact.name: artifact.media_type for artifact in manifest.artifacts}.items() < MEDIA_TYPES.items()
    assert manifest.model_dump(mode="json") == json.loads(MANIFEST_OF_NINE)


def test_metrics_from_before_there_were_model_cards_are_read() -> None:
    metrics = Metrics.model_validate_json(METRICS_BEFORE_CARDS)

    assert metrics.prior_data == {}
    assert (metrics.nll, metrics.calibration_error) == (None, None)
    assert (metrics.num_learned, metrics.repeats_left_out, metrics.repeats_in_test) == (0, 0, 0)


def test_requests_and_plans_from_before_an_architecture_could_be_given_are_read() -> None:
    attempt = AttemptRequest.from_stored(attempt_of(REQUEST_BEFORE_GIVEN).encode(), "request.json")

    assert (attempt.request.search, attempt.request.architecture) == ("adapt", None)
    assert attempt.request.num_channels is None
    plan = Plan.model_validate_json(PLAN_BEFORE_GIVEN)
    assert (plan.architecture, plan.precision) == (None, "float32")


def test_a_card_from_before_there_were_trials_is_read() -> None:
    before = json.loads(GOLDEN[PriorCard])
    del before["trials"]

    assert PriorCard.model_validate(before).trials is None
