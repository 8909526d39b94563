"""Records that an earlier version wrote are still there after its successor's migrations."""

import hashlib
import json

import pytest
from alembic import command
from sqlalchemy import text

from service.records.adaptations import AdaptationRecords
from service.records.checks import CheckRecords
from service.records.database import Database, migration_config
from service.records.datasets import DatasetRecords
from service.records.keys import KeyRecords
from service.records.meta_runs import MetaRunRecords
from service.records.priors import PriorRecords
from workers.contracts.adaptations import AdaptationRequest
from workers.contracts.datasets import DatasetReport
from workers.contracts.errors import NewerFormatError

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


META_RUN = {
    "id": "mr-000000000001",
    "owner": "local",
    "attempt": 1,
    "state": "STOPPED",
    "request": json.dumps({"datasets": [{"dataset_id": DATASET["id"]}], "config": {"num_steps": 100}}),
    "datasets": json.dumps([]),
    "prior_id": "own-v1",
    "spent_s": 60.5,
    "created_at": 1_700_000_002.5,
    "artifacts": json.dumps([]),
}
PRIOR = {
    "id": "own-v1-s50",
    "owner": "local",
    "search_space": "nas_bench_201",
    "meta_run_id": META_RUN["id"],
    "created_at": 1_700_000_003.5,
}
PROMOTION = {
    "id": 1,
    "search_space": "nas_bench_201",
    "prior_id": PRIOR["id"],
    "owner": "local",
    "created_at": 1_700_000_004.5,
}
TOKEN_SECRET = "s" * 43
OWNER = {"id": "lab", "max_bytes": 10**9, "max_unfinished": 3, "touched_at": 1_700_000_000.5}
KEY = {
    "id": "0123456789ab",
    "owner": "lab",
    "role": "user",
    "name": "a laptop",
    "secret_sha256": hashlib.sha256(TOKEN_SECRET.encode()).hexdigest(),
    "created_at": 1_700_000_000.5,
}
OF_0001 = (("datasets", DATASET), ("adaptations", ADAPTATION))
OF_0002 = (
    ("datasets", {**DATASET, "meta_use": True, "terms": "CC0"}),
    ("adaptations", ADAPTATION),
    ("meta_runs", META_RUN),
    ("priors", PRIOR),
    ("promotions", PROMOTION),
)
WAITED = {"priority": 5, "num_failures": 1, "arrival": 7}
OF_0003 = (
    *((table, row | WAITED if table in {"adaptations", "meta_runs"} else row) for table, row in OF_0002),
    ("owners", OWNER),
    ("api_keys", KEY),
)
CHECKING = {
    "id": "ds-000000000002",
    "owner": "local",
    "name": "large",
    "state": "CHECKING",
    "num_bytes": 10,
    "created_at": 1_700_000_000.5,
    "changed_at": 1_700_000_000.5,
    "upload": json.dumps({"upload_id": "u", "part_bytes": 5}),
}
OF_0004 = (*OF_0003, ("datasets", CHECKING))


@pytest.fixture
def records_of(database_url):
    """`records_of("0002", rows)`: the records of a service of that version, with these rows, as they are now."""
    opened = Database(database_url)

    def make(version, rows):
        config = migration_config()
        with opened.migrating() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, version)
            for table, values in rows:
                columns, places = ", ".join(values), ", ".join(f":{name}" for name in values)
                connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({places})"), values)
        return opened

    yield make
    opened.close()


@pytest.fixture
def database(records_of):
    """The records of a service of version 0001 that had some."""
    return records_of("0001", OF_0001)


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
    assert priors.promotions(None, owner="local", limit=10) == ((), None)


@pytest.mark.parametrize(("version", "rows"), [("0002", OF_0002), ("0003", OF_0003), ("0004", OF_0004)])
def test_rows_of_later_versions_are_kept(records_of, version, rows):
    database = records_of(version, rows)
    database.migrate()

    dataset = DatasetRecords(database).get(DATASET["id"], owner="local")
    assert (dataset.report, dataset.findings) == (REPORT, None)  # READY, or there would be no dataset
    assert (dataset.meta_use, dataset.terms) == (True, "CC0")
    run = MetaRunRecords(database).get(META_RUN["id"], owner="local")
    assert (run.state, run.request.config.num_steps, run.spent_s) == ("STOPPED", 100, 60.5)
    adaptation = AdaptationRecords(database).get(ADAPTATION["id"], owner="local")
    assert (adaptation.state, adaptation.attempt) == ("RUNNING", 2)
    priors = PriorRecords(database)
    assert priors.ids(owner="local", limit=10) == (PRIOR["id"],)
    assert [promotion.prior_id for promotion in priors.promotions(None, owner="local", limit=10)[0]] == [PRIOR["id"]]
    of_0003 = version >= "0003"
    assert (run.priority, adaptation.num_failures) == ((5, 1) if of_0003 else (0, 0))
    key = KeyRecords(database).find(f"ap_{KEY['id']}_{TOKEN_SECRET}")
    assert (key is not None and key.owner == "lab") == of_0003


def test_what_waited_for_its_check_is_due_and_was_never_tried(records_of):
    database = records_of("0004", OF_0004)
    database.migrate()
    (entry,) = CheckRecords(database).arrived()
    assert (entry.id, entry.arrival.upload_id, entry.num_tries, entry.num_waits) == (CHECKING["id"], "u", 0, 0)


def test_records_that_a_newer_version_has_migrated_are_refused(database):
    database.migrate()
    with database.connection() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(NewerFormatError, match=r"database of records.*version 0099.*at most 0005.*Update ArchPrior"):
        database.migrate()


def test_the_last_migration_can_be_undone_without_losing_rows(database):
    database.migrate()
    config = migration_config()
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    database.migrate()
    assert AdaptationRecords(database).get(ADAPTATION["id"], owner="local").attempt == 2
