"""Bodies that are read as they stream in: which files they may hold, and what OpenAPI says of them."""

from collections.abc import Mapping
from typing import Any, Final

from service.datasets.intake import DATASET_FILE, DatasetFields
from service.http.uploads import FileField
from service.priors.intake import CARD_FILE, TENSORS_FILE, PriorFields
from service.schemas import AdaptationForm, DatasetBegin, DatasetSource
from service.settings import Settings

# Of a card, which holds bounded curves and the names of the classes that its prior has learned from.
MAX_CARD_BYTES: Final = 1 << 22


def dataset_files(settings: Settings) -> Mapping[str, FileField]:
    """Return what a form with a dataset may hold."""
    todo = "Send fewer or smaller images, or raise ARCHPRIOR_MAX_UPLOAD_BYTES."
    zip_file = FileField(what="the zip", example="pets.zip", max_bytes=settings.max_upload_bytes, todo=todo)
    return {DATASET_FILE: zip_file}


def prior_files(settings: Settings) -> Mapping[str, FileField]:
    """Return what a form with a prior may hold."""
    return {
        CARD_FILE: FileField(
            what="the card", example="card.json", max_bytes=MAX_CARD_BYTES, todo="Shorten the curves of the card."
        ),
        TENSORS_FILE: FileField(
            what="the tensors",
            example="prior.safetensors",
            max_bytes=settings.max_prior_bytes,
            todo="Send a smaller prior, or raise ARCHPRIOR_MAX_PRIOR_BYTES.",
        ),
    }


def _file(description: str) -> dict[str, str]:
    return {"type": "string", "format": "binary", "description": description}


def _form(files: Mapping[str, dict[str, str]], fields: Mapping[str, object]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(files),
        "additionalProperties": False,
        "properties": {**files, **fields},
    }


_ZIP: Final = _file("A zip with one folder of images per class.")


def _form_body(files: Mapping[str, dict[str, str]], fields: Mapping[str, object]) -> dict[str, Any]:
    return {"required": True, "content": {"multipart/form-data": {"schema": _form(files, fields)}}}


def _adaptation_body() -> dict[str, Any]:
    fields = dict(AdaptationForm.model_json_schema()["properties"])
    by_id = fields.pop("dataset_id")
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
            "multipart/form-data": {"schema": _form({DATASET_FILE: _ZIP}, fields)},
            "application/json": {"schema": document, "example": example},
        },
    }


def _dataset_body() -> dict[str, Any]:
    form = _form({DATASET_FILE: _ZIP}, DatasetFields.model_json_schema()["properties"])
    documents = [kind.model_json_schema() for kind in (DatasetBegin, DatasetSource)]
    examples = {
        "parts": {"summary": "Arrives in parts", "value": {"num_bytes": 2_147_483_648, "name": "pets"}},
        "source": {"summary": "Is copied", "value": {"source": "s3://uploads/team/pets.zip", "meta_use": True}},
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": {"oneOf": documents}, "examples": examples},
        },
    }


DATASET_BODY: Final = _dataset_body()
PART_BODY: Final = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
PRIOR_FORM: Final = _form_body(
    {CARD_FILE: _file("The prior's `card.json`."), TENSORS_FILE: _file("The prior's `prior.safetensors`.")},
    PriorFields.model_json_schema()["properties"],
)
ADAPTATION_BODY: Final = _adaptation_body()
