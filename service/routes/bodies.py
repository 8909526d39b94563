"""What OpenAPI says of bodies that are read as they stream in."""

from typing import Any, Final

from service.uploads import FILE_FIELD
from workers.contracts.adaptations import AdaptationRequest

_ZIP: Final = {"type": "string", "format": "binary", "description": "A zip with one folder of images per class."}
_NAME: Final = {"type": "string", "maxLength": 200, "description": "Absent: the file's name."}

DATASET_FORM: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FILE_FIELD],
                "additionalProperties": False,
                "properties": {FILE_FIELD: _ZIP, "name": _NAME},
            }
        }
    },
}


def _adaptation_body() -> dict[str, Any]:
    fields = dict(AdaptationRequest.model_json_schema()["properties"])
    by_id = fields.pop("dataset_id")
    form = {
        "type": "object",
        "required": [FILE_FIELD],
        "additionalProperties": False,
        "properties": {FILE_FIELD: _ZIP, **fields},
    }
    document = {
        "type": "object",
        "required": ["dataset_id"],
        "additionalProperties": False,
        "properties": {"dataset_id": by_id, **fields},
    }
    example = {"dataset_id": "ds-4f1c09b2a7de", "search_space": "nas_bench_201", "budget_s": 60, "seed": 0}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": document, "example": example},
        },
    }


ADAPTATION_BODY: Final = _adaptation_body()
