"""Every stored record is read back as version 1 wrote it, and a newer version is refused."""

import json

import pytest
from pydantic import ValidationError

from workers.contracts.adaptations import AttemptRequest, Control, Failure, Plan, Progress
from workers.contracts.artifacts import Manifest
from workers.contracts.base import StoredContract
from workers.contracts.datasets import DatasetReport

GOLDEN: dict[type[StoredContract], str] = {
    AttemptRequest: """{"schema_version":1,"adaptation_id":"a","attempt":1,"request":{"dataset_id":"d","name":null,
        "search_space":"nas_bench_201","prior":"none","search":"adapt","budget_s":60.0,"max_params":null,
        "max_macs":null,"resolution":null,"num_workers":1,"seed":0},"dataset_key":"datasets/0/archive.zip",
        "dataset_sha256":"0","spent_s":0.0}""",
    Control: """{"schema_version":1,"desired":"cancel"}""",
    DatasetReport: """{"schema_version":1,"classes":["a","b"],"num_images":[3,4],"splits":{"train":7},"median_size":8,
        "min_size":8,"max_size":9,"modes":{"L":7},"skipped":[{"path":"a/1.png","reason":"truncated"}]}""",
    Failure: """{"schema_version":1,"code":"cancelled","what":"w","got":"","expected":"","todo":""}""",
    Manifest: """{"schema_version":1,"adaptation_id":"a","attempt":1,"artifacts":[{"name":"labels.json","num_bytes":2,
        "sha256":"0","media_type":"application/json"}]}""",
    Plan: """{"schema_version":1,"search_space":"nas_bench_201","prior":"none","search":"adapt","seed":0,
        "skeleton":"cifar","num_channels":16,"num_cells":1,"num_classes":10,"resolution":32,"early_resolution":16,
        "num_train":5,"num_query":5,"num_test":5,"num_workers":1,"batch_size":64,"flip":true,"num_search_steps":1,
        "choice_every":4,"num_arch_samples":4,"num_candidates":3,"race_steps":3,"max_train_steps":9,"search_s":1.0,"choice_s":1.0,"race_s":1.0,
        "train_s":1.0,"export_s":1.0,"max_params":null,"max_macs":null}""",
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
