"""A service is backed up while it runs, wiped, restored, and goes on."""

import json
import os
import shutil
import stat
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.errors import ConflictError
from service.housekeeping.archive import Archive, InvalidBackupError
from service.housekeeping.backup import back_up, restore
from service.housekeeping.tenure import holding, new_lease
from service.records.adaptations import AdaptationRecords
from service.records.audit import AuditRecords, Deed
from service.records.database import Database
from service.records.dump import load
from workers.contracts.errors import StoreError
from workers.store.folder import FolderStore
from workers.store.open import open_store

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def say_nothing(progress):
    pass


def run(*arguments, database_url=None):
    own = {} if database_url is None else {"ARCHPRIOR_DATABASE_URL": database_url, "ARCHPRIOR_SINGLE_SERVICE": "1"}
    return CliRunner(env={"NO_COLOR": "1", **own}).invoke(app, [str(argument) for argument in arguments])


class Backup:
    """A backup of a service that ran, and what it held."""

    def __init__(self, service, folder: Path, small_zip: bytes, own_card, tensors: Path) -> None:
        self.folder, client = folder, service.client
        dataset = service.add_dataset(small_zip)
        done = service.adapt(dataset_id=dataset["id"], prior="none")
        service.job(done["id"]).succeed()
        service.await_state(done["id"], "SUCCEEDED")
        assert service.parts.prior_catalog.add(own_card, tensors, owner="local")
        assert client.post(f"/v1/priors/{own_card.id}/promote").status_code == 200
        self.running = service.adapt(dataset_id=dataset["id"], prior=own_card.id)["id"]
        service.await_state(self.running, "RUNNING")
        _, token = service.parts.keys.create(owner="local", role="operator")
        self.headers = client.headers["Authorization"] = f"Bearer {token}"
        self.paths = (
            f"/v1/datasets/{dataset['id']}",
            f"/v1/adaptations/{done['id']}",
            f"/v1/adaptations/{done['id']}/artifacts/weights.safetensors",
            f"/v1/priors/{own_card.id}",
            f"/v1/priors/{own_card.id}/files/prior.safetensors",
            "/v1/priors/promotions",
        )
        self.answers = [client.get(path).content for path in self.paths]
        self.keys = service.keys()
        self.result = run("backup", folder, "--data-dir", service.parts.settings.data_dir, "--json")


@pytest.fixture(scope="module")
def backup(tmp_path_factory, new_service_of_module, small_zip, own_card, tensors):
    root = tmp_path_factory.mktemp("backup")
    with new_service_of_module(root / "data") as service:
        made = Backup(service, root / "kept", small_zip, own_card, tensors)
    shutil.rmtree(root / "data")
    assert made.result.exit_code == 0, made.result.output
    return made


@pytest.fixture(scope="module")
def new_service_of_module():
    from tests.service.conftest import start_service

    return start_service


@both
def test_the_drill(backup, database_url, tmp_path, new_service):
    """Wiped, restored, started: what was there is there, and what ran goes on as a new attempt."""
    restored = run("restore", backup.folder, "--data-dir", tmp_path / "data", database_url=database_url)
    assert restored.exit_code == 0, restored.output
    assert "All records are restored" in restored.stderr
    settings = {"database_url": database_url, "single_service": True, "reconcile_interval_s": 0.05}
    with new_service(tmp_path / "data", **settings) as service:
        assert service.client.get(backup.paths[0]).status_code == 401
        service.client.headers["Authorization"] = backup.headers
        assert [service.client.get(path).content for path in backup.paths] == backup.answers
        assert backup.keys <= service.keys()
        first = service.await_submission()
        assert first == f"{backup.running}-a2"
        service.job(backup.running, 2).succeed()
        assert service.await_state(backup.running, "SUCCEEDED")["attempt"] == 2
        # Numbers that the database gives go on after those that were restored.
        assert service.client.post("/v1/priors/own-v1/promote").status_code == 200
        assert len(service.client.get("/v1/priors/promotions").json()["items"]) == 2
    again = run("restore", backup.folder, "--data-dir", tmp_path / "data", database_url=database_url)
    assert again.exit_code == 1
    assert "are not empty" in again.stderr


def test_rows_are_the_same_in_either_database(backup, postgresql, tmp_path):
    told = Archive(backup.folder)
    urls = (postgresql.new_database(), f"sqlite:///{tmp_path / 'records.sqlite3'}")
    folder = backup.folder
    for number, url in enumerate(urls):
        database, store = Database(url), FolderStore(tmp_path / f"objects{number}", create=True)
        restore(database, store, folder, tell=say_nothing)
        folder = tmp_path / f"again{number}"
        manifest = back_up(database, store, folder, tell=say_nothing)
        database.close()
        assert records_of(manifest) == records_of(told.manifest())
        # Versions are a store's own.
        assert [(one.key, one.written()) for one in Archive(folder).objects()] == [
            (one.key, one.written()) for one in told.objects()
        ]
    assert {one.key for one in store.list("")} == backup.keys


def records_of(manifest):
    return {name: written for name, written in manifest.files.items() if name.startswith("records/")}


def test_only_its_owner_reads_a_backup(backup):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in backup.folder.rglob("*") if path.is_file()}
    folders = {
        stat.S_IMODE(path.stat().st_mode) for path in (backup.folder, *backup.folder.rglob("*")) if path.is_dir()
    }
    assert (modes, folders) == ({0o600}, {0o700})


def spoil_version(folder):
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 3}))
    return manifest


def spoil_revision(folder):
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "revision": "9999"}))
    return manifest


def spoil_manifest(folder):
    (folder / "manifest.json").write_text("{")
    return folder / "manifest.json"


def spoil_rows(folder):
    with (folder / "records" / "datasets.jsonl").open("a") as file:
        file.write("{}\n")
    return folder / "records" / "datasets.jsonl"


def spoil_object(folder):
    (path,) = (folder / "objects" / "datasets").glob("*/archive.zip")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return path


def lose_object(folder):
    (path,) = (folder / "objects" / "priors").glob("*/card.json")
    path.unlink()
    return path


@pytest.mark.parametrize(
    "spoil", [spoil_version, spoil_revision, spoil_manifest, spoil_rows, spoil_object, lose_object]
)
def test_a_backup_that_cannot_be_trusted_is_refused_by_the_name_of_its_file(backup, tmp_path, spoil):
    folder = tmp_path / "spoiled"
    shutil.copytree(backup.folder, folder)
    name = spoil(folder)
    refused = run("restore", folder, "--data-dir", tmp_path / "data")
    assert (refused.exit_code, str(name) in refused.stderr) == (1, True), refused.output
    mended = run("restore", backup.folder, "--data-dir", tmp_path / "data")
    assert mended.exit_code == 0, "no record was restored, and objects may be"


def test_half_a_backup_is_none(backup, tmp_path):
    (tmp_path / "half").mkdir()
    refused = run("restore", tmp_path / "half", "--data-dir", tmp_path / "data", "--json")
    assert json.loads(refused.stdout)["error"]["code"] == "invalid_backup"


def test_a_backup_that_breaks_off_goes_on_and_is_brought_up_to_date(database, store, tmp_path, monkeypatch):
    for key in ("a/1", "a/2", "b/3"):
        store.put_bytes(key, key.encode())
    folder, told = tmp_path / "kept", []
    with monkeypatch.context() as patch:
        fail_at(patch, "b/3")
        with pytest.raises(StoreError):
            back_up(database, store, folder, tell=say_nothing)
    with pytest.raises(InvalidBackupError):
        Archive(folder).manifest()
    back_up(database, store, folder, tell=lambda progress: told.append(progress.num_there))
    assert told[-1] == 2
    store.delete("a/1")
    store.put_bytes("a/2", b"other bytes")
    manifest = back_up(database, store, folder, tell=say_nothing)
    assert [entry.key for entry in Archive(folder).objects()] == ["a/2", "b/3"]
    assert manifest.num_bytes == len(b"other bytes") + 3
    assert not (folder / "objects" / "a" / "1").exists()


@pytest.fixture
def kept(database, store, tmp_path):
    """A whole backup of two objects, and how it is brought up to date."""
    for key in ("a/1", "b/2"):
        store.put_bytes(key, b"first bytes")
    kept = Kept(database, store, tmp_path / "kept")
    assert kept.again() == 0
    return kept


class Kept:
    def __init__(self, database, store, folder):
        self.database, self.store, self.folder = database, store, folder

    def again(self, **options):
        """Bring it up to date; return how many objects it had already."""
        told = []
        options["tell"] = lambda progress: told.append(progress.num_there)
        back_up(self.database, self.store, self.folder, **options)
        return told[-1]

    def path(self, key):
        return self.folder / "objects" / key

    def restored(self, folder):
        """What comes of it in a new folder: bytes by key."""
        folder.mkdir()
        database, store = Database(f"sqlite:///{folder / 'sqlite3'}"), FolderStore(folder / "objects", create=True)
        restore(database, store, self.folder, tell=say_nothing)
        database.close()
        return {one.key: store.get_bytes(one.key) for one in store.list("")}


def test_what_a_backup_lists_in_the_version_of_the_store_is_kept_unread(kept, monkeypatch):
    monkeypatch.setattr(FolderStore, "read", lambda *_, **__: pytest.fail("it was read"))
    monkeypatch.setattr("service.housekeeping.backup.measure", lambda _: pytest.fail("it was hashed"))
    assert kept.again() == 2
    assert kept.again() == 2


def test_other_bytes_of_the_same_size_and_time_are_copied(kept, tmp_path):
    path = kept.store.local_path("a/1")
    moment = path.stat()
    kept.store.put_bytes("a/1", b"other bytes")
    os.utime(path, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    assert kept.again() == 1
    assert kept.restored(tmp_path / "new") == {"a/1": b"other bytes", "b/2": b"first bytes"}


def spoil(path):
    """Change bytes and nothing else, as a failing disk does."""
    moment = path.stat()
    path.write_bytes(b"fIrst bytes")
    os.utime(path, ns=(moment.st_atime_ns, moment.st_mtime_ns))


def test_a_copy_that_was_spoiled_is_never_taken_for_what_was_copied(kept, tmp_path):
    spoil(kept.path("a/1"))
    assert kept.again() == 2, "who trusts the list does not read it"
    with pytest.raises(InvalidBackupError, match="objects/a/1"):
        kept.restored(tmp_path / "new")
    assert kept.again(verify=True) == 1
    assert kept.restored(tmp_path / "newer") == {"a/1": b"first bytes", "b/2": b"first bytes"}


def test_verifying_reads_the_objects_too(kept, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("workers.store.folder._version", lambda _: "a store that tells none from another")
    assert kept.again() == 0
    path = kept.store.local_path("b/2")
    moment = path.stat()
    path.write_bytes(b"other bytes")
    os.utime(path, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    assert kept.again() == 2
    assert kept.again(verify=True) == 1
    assert "the backup of b/2 is not what was copied" in caplog.text
    assert kept.restored(tmp_path / "new")["b/2"] == b"other bytes"


def test_a_store_that_tells_no_versions_is_copied_anew(kept, monkeypatch):
    monkeypatch.setattr("workers.store.folder._version", lambda _: "")
    assert kept.again() == 0
    assert kept.again() == 0


def test_what_was_replaced_in_an_unlisted_round_is_copied_again(kept, tmp_path):
    """Killed between a file and its line: the list still tells of the file before."""
    kept.path("a/1").write_bytes(b"later bytes")
    assert kept.again() == 1
    assert kept.restored(tmp_path / "new")["a/1"] == b"first bytes"


def test_a_list_that_breaks_off_within_a_line_is_known_up_to_there(kept, tmp_path):
    listed = (kept.folder / "objects.jsonl").read_bytes()
    (kept.folder / "objects.jsonl").unlink()
    (kept.folder / "manifest.json").unlink()
    (kept.folder / "partial" / "objects.jsonl").write_bytes(listed[:-5])
    (kept.folder / "partial" / "half a copy").touch()
    assert kept.again() == 1
    assert kept.again() == 2
    assert list((kept.folder / "partial").iterdir()) == []


def test_two_rounds_that_break_off_add_to_what_is_known(database, store, tmp_path, monkeypatch):
    kept = Kept(database, store, tmp_path / "kept")
    keys = [f"a/{number}" for number in range(6)]
    for key in keys:
        store.put_bytes(key, key.encode())
    for broken in ("a/4", "a/2"):
        with monkeypatch.context() as patch:
            fail_at(patch, broken)
            if broken == "a/2":
                store.put_bytes(broken, b"other bytes")
            with pytest.raises(StoreError):
                kept.again()
    assert kept.again() == 3  # of a/0 to a/3 all but that which has changed
    assert kept.restored(tmp_path / "new") == {key: store.get_bytes(key) for key in keys}


def fail_at(patch, broken):
    whole = FolderStore.read

    def failing(self, key, **span):
        if key == broken:
            raise StoreError("the store does not answer", got=key)
        return whole(self, key, **span)

    patch.setattr(FolderStore, "read", failing)


def test_objects_of_s3_are_kept_by_their_etags(database, s3_environment, tmp_path):
    store = open_store(f"s3://kept-{uuid.uuid4().hex[:12]}/team", create=True)
    for key in ("a-1", "a/1", "b/2"):
        store.put_bytes(key, b"first bytes")
    kept = Kept(database, store, tmp_path / "kept")
    assert (kept.again(), kept.again(), kept.again(verify=True)) == (0, 3, 3)
    store.put_bytes("a/1", b"other bytes")  # within the second that S3 tells
    assert kept.again() == 2
    assert kept.restored(tmp_path / "new")["a/1"] == b"other bytes"


def test_a_restoration_that_breaks_off_goes_on_and_trusts_no_size(kept, tmp_path):
    store, told = FolderStore(tmp_path / "new", create=True), []
    store.put_bytes("a/1", b"first bytes")

    def attempt():
        database = Database(f"sqlite:///{tmp_path / 'new.sqlite3'}")
        try:
            restore(database, store, kept.folder, tell=lambda progress: told.append(progress.num_there))
        finally:
            database.close()

    store.put_bytes("b/2", b"other bytes")
    with pytest.raises(ConflictError, match="another object") as caught:
        attempt()
    assert caught.value.got == "b/2"
    assert store.get_bytes("b/2") == b"other bytes"
    store.delete("b/2")
    attempt()
    assert told[-1] == 1
    assert store.get_bytes("b/2") == b"first bytes"


def test_objects_that_no_key_names_are_left_out_of_a_backup(kept):
    (kept.store.folder / "a" / "back\\slash").touch()
    assert kept.again() == 2


def test_the_command_verifies(backup, tmp_path, new_service_of_module):
    folder = tmp_path / "kept"
    with new_service_of_module(tmp_path / "data") as service:
        service.parts.store.put_bytes("a/1", b"first bytes")
        for arguments in ((), (), ("--verify",)):
            if arguments:
                spoil(folder / "objects" / "a" / "1")
            made = run("backup", folder, "--data-dir", service.parts.settings.data_dir, *arguments)
            assert made.exit_code == 0, made.output
    assert (folder / "objects" / "a" / "1").read_bytes() == b"first bytes"
    assert "were there" not in made.stderr


def test_where_a_backup_is_not_made(database, store, tmp_path, monkeypatch):
    monkeypatch.setattr("service.housekeeping.tenure.PATIENCE_S", 0.0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InvalidBackupError, match=r"thesis\.tex"):
        back_up(database, store, tmp_path / "mine", tell=say_nothing)
    with holding(new_lease(database, holder="gc")), pytest.raises(ConflictError, match="under way"):
        back_up(database, store, tmp_path / "kept", tell=say_nothing)


def test_nothing_is_restored_over_what_is_there(backup, database_url, tmp_path):
    database, store = Database(database_url), FolderStore(tmp_path / "objects", create=True)
    store.put_bytes("datasets/x/archive.zip", b"of somebody")
    with pytest.raises(ConflictError, match="store is not empty"):
        restore(database, store, backup.folder, tell=say_nothing)
    store.delete("datasets/x/archive.zip")
    database.migrate()
    lease = new_lease(database, holder="a service")
    with holding(lease), pytest.raises(ConflictError, match="a service acts"):
        restore(database, store, backup.folder, tell=say_nothing)
    audit = Deed(owner="local", key_id=None, request_id="r", action="a", path="/", status=200)
    AuditRecords(database).add(audit)
    with pytest.raises(ConflictError, match="there are audit"):
        restore(database, store, backup.folder, tell=say_nothing)
    database.close()


def test_a_folder_whose_service_runs_gets_nothing(backup, new_service, tmp_path):
    with new_service(tmp_path / "data"):
        refused = run("restore", backup.folder, "--data-dir", tmp_path / "data", "--json")
    assert json.loads(refused.stdout)["error"]["code"] == "data_dir_busy"


@both
def test_rows_of_an_earlier_revision_are_brought_to_the_newest(database_url):
    from tests.service.records.test_migrations import ADAPTATION, DATASET

    database = Database(database_url)
    database.migrate()
    rows = {"datasets": DATASET, "adaptations": ADAPTATION}
    lines = {
        table: json.dumps(
            {
                name: json.loads(value) if name in {"report", "request", "artifacts"} else value
                for name, value in row.items()
            }
        )
        for table, row in rows.items()
    }
    load(database, "0001", {table: lambda line=line: [line] for table, line in lines.items()})
    adaptation = AdaptationRecords(database).get(ADAPTATION["id"], owner="local")
    assert (adaptation.state, adaptation.attempt, adaptation.error) == ("RUNNING", 2, None)
    database.close()
