"""Records that an earlier version wrote are still there after its successor's migrations."""

import json

import pytest
from alembic import command
from sqlalchemy import text

from service.records.adaptations import AdaptationRecords
from service.records.database import Database, migration_config
from service.records.datasets import DatasetRecords
from service.records.priors import PriorRecords
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.datasets import DatasetReport

REPORT = DatasetReport(
    classes=("cat", "dog"), num_images=(6, 6), median_size=12, min_size=12, max_size=12, modes={"L": 12}
)
DATASET = {
    "id": "ds-000000000001",
    "owner": "local",
    "name": "pets",
    "sha256": "a" * 64,
    "num_bytes": 10,
    "report": REPORT.model_dump_json(),
    "created_at": 1_700_000_000.5,
}
ADAPTATION = {
    "id": "ad-000000000001",
    "owner": "local",
    "attempt": 2,
    "state": "RUNNING",
    "request": AdaptationRequest(dataset_id=DATASET["id"], prior="own-v1").model_dump_json(),
    "dataset_id": DATASET["id"],
    "dataset_sha256": DATASET["sha256"],
    "spent_s": 3.5,
    "created_at": 1_700_000_001.5,
    "artifacts": json.dumps([]),
}


@pytest.fixture
def database(database_url):
    """The records of a service of version 0001 that had some."""
    opened = Database(database_url)
    config = migration_config()
    with opened.migrating() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for table, values in (("datasets", DATASET), ("adaptations", ADAPTATION)):
            columns, places = ", ".join(values), ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({places})"), values)
    yield opened
    opened.close()


def test_rows_of_version_0001_are_kept(database):
    database.migrate()
    dataset = DatasetRecords(database).get(DATASET["id"], owner="local")
    assert (dataset.name, dataset.report, dataset.created_at.timestamp()) == ("pets", REPORT, 1_700_000_000.5)
    adaptation = AdaptationRecords(database).get(ADAPTATION["id"], owner="local")
    assert (adaptation.state, adaptation.attempt, adaptation.spent_s) == ("RUNNING", 2, 3.5)
    assert adaptation.request.prior == "own-v1"


def test_what_waited_before_there_were_arrivals_waits_on_in_its_order(database):
    earlier = {**ADAPTATION, "id": "ad-000000000002", "created_at": 1_700_000_000.5}
    columns, places = ", ".join(earlier), ", ".join(f":{name}" for name in earlier)
    with database.connection() as connection:
        connection.execute(text(f"INSERT INTO adaptations ({columns}) VALUES ({places})"), earlier)
    database.migrate()
    with database.connection() as connection:
        arrivals = connection.execute(text("SELECT id, arrival FROM adaptations ORDER BY arrival")).all()
    assert arrivals == [(earlier["id"], 1), (ADAPTATION["id"], 2)]


def test_nobody_may_learn_from_what_was_uploaded_before_it_was_asked(database):
    database.migrate()
    dataset = DatasetRecords(database).get(DATASET["id"], owner="local")
    assert (dataset.meta_use, dataset.terms) == (False, "not stated")


def test_there_are_no_priors_and_no_promotions_yet(database):
    database.migrate()
    priors = PriorRecords(database)
    assert priors.ids(owner="local", limit=10) == ()
    assert priors.promotions(None, owner="local", limit=10) == ()


def test_the_last_migration_can_be_undone_without_losing_rows(database):
    database.migrate()
    config = migration_config()
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    database.migrate()
    assert AdaptationRecords(database).get(ADAPTATION["id"], owner="local").attempt == 2
