"""The API's document: as committed, whole, and true."""

import re
from pathlib import Path

import jsonschema
import pytest

from service import examples, openapi, schemas
from service.app import create_app
from service.settings import Settings

GOLDEN = Path(__file__).parents[3] / "docs" / "openapi.json"
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("never-used")))


@pytest.fixture(scope="module")
def document(app):
    return app.openapi()


@pytest.fixture(scope="module")
def operations(document):
    return {
        operation["operationId"]: (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def test_the_document_is_the_committed_one(app):
    assert openapi.text(app) == GOLDEN.read_text(), "The API has changed. If it should: make openapi"


def test_operation_ids_are_readable_and_each_given_once(document, operations):
    assert all(re.fullmatch("[a-z]+(_[a-z]+)+", name) for name in operations)
    assert len(operations) == sum(len(METHODS & methods.keys()) for methods in document["paths"].values())


@pytest.mark.parametrize("example", examples.EXAMPLES, ids=lambda example: type(example).__name__)
def test_every_example_is_in_the_document_and_fits_its_schema(document, example):
    name = type(example).__name__
    known = [one for one in document["components"]["schemas"] if one.split("-")[0] == name]
    assert known
    for one in known:
        schema = {"$ref": f"#/components/schemas/{one}", "components": document["components"]}
        (shown,) = document["components"]["schemas"][one]["examples"]
        jsonschema.Draft202012Validator(schema).validate(shown)
        assert type(example).model_validate(shown) == example


def test_every_view_and_request_has_an_example(document):
    shown = {type(example).__name__ for example in examples.EXAMPLES}
    missing = {
        name
        for name in document["components"]["schemas"]
        if name.split("-")[0] not in shown and re.search("(View|Page|Problem|Health)$", name) and hasattr(schemas, name)
    }
    assert missing == set()


def test_every_body_has_an_example_or_is_of_files(operations):
    for path, _, operation in operations.values():
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            shown = {"example", "examples"} & content.keys() or "$ref" in content["schema"]
            assert media_type in {"multipart/form-data", "application/octet-stream"} or shown, path


def test_every_operation_declares_its_refusals_as_problems(operations):
    for name, (_, _, operation) in operations.items():
        refusals = {status for status in operation["responses"] if status == "default" or status >= "400"}
        assert "default" in refusals, name
        for status in refusals - {"503"}:
            assert "application/problem+json" in operation["responses"][status]["content"], (name, status)


def test_what_creates_takes_a_key_and_what_shows_one_thing_takes_an_etag(operations):
    def takes(name: str, header: str) -> bool:
        parameters = operations[name][2].get("parameters", ())
        return any(one["in"] == "header" and one["name"].lower() == header for one in parameters)

    assert all(takes(name, "idempotency-key") for name in ("create_adaptation", "create_meta_run", "compare_priors"))
    for name in ("get_adaptation", "get_meta_run", "get_dataset", "get_prior"):
        assert takes(name, "if-none-match")
        assert "304" in operations[name][2]["responses"]
