"""What tells a data folder from all others: its service's leases are freed by its successor, and by nobody else."""

import shutil

import pytest

from service.data_dir import IDENTITY, claim, identity
from service.records.database import Database
from service.records.lease import CHECKER, HOUSEKEEPER, RECONCILER, WEBHOOKS, Lease

NAMES = (RECONCILER, CHECKER, WEBHOOKS, HOUSEKEEPER)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_a_folder_keeps_its_identity_wherever_it_is_moved_to(folder, tmp_path):
    own = identity(folder)
    assert identity(folder) == own
    folder.rename(tmp_path / "moved")
    assert identity(tmp_path / "moved") == own


def test_folders_of_one_host_name_and_path_are_two(folder, tmp_path):
    """As of two containers: each sees its own folder at the same path."""
    own = identity(folder)
    folder.rename(tmp_path / "of the other container")
    folder.mkdir()
    assert identity(folder) != own


def test_a_copy_of_a_folder_is_another_one(folder, tmp_path):
    own = identity(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert (tmp_path / "copy" / IDENTITY).read_bytes() == (folder / IDENTITY).read_bytes()
    assert identity(tmp_path / "copy") != own


def test_another_host_with_the_same_folder_is_another_one(folder, monkeypatch):
    own = identity(folder)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert identity(folder) != own


@pytest.mark.parametrize("left", [b"", b"half of i", b"\xff\x00", b"0" * 33])
def test_what_is_left_of_a_broken_write_is_written_anew(folder, left):
    (folder / IDENTITY).write_bytes(left)
    own = identity(folder)
    assert identity(folder) == own
    assert [path.name for path in folder.iterdir()] == [IDENTITY]


def test_a_service_frees_the_leases_of_its_own_folder_alone(new_service, folder, postgresql, tmp_path):
    url = postgresql.new_database()
    shared = {"database_url": url, "store_url": str(tmp_path / "objects"), "single_service": True}
    database = Database(url)
    database.migrate()

    def hold(holder):
        for name in NAMES:
            Lease(database, name=name, holder="nobody", ttl_s=600.0).end_those_of("")
            assert Lease(database, name=name, holder=f"{holder}:dead", ttl_s=600.0).acquire()

    def free():
        return [name for name in NAMES if Lease(database, name=name, holder="me", ttl_s=0.0).acquire()]

    with claim(folder):
        own = identity(folder)
    hold(own)
    with new_service(folder, **shared):
        pass
    assert free() == list(NAMES), "its predecessor is dead"
    # Another container, whose folder lay at the same path on a host of the same name.
    folder.rename(tmp_path / "of the other container")
    hold(own)
    with new_service(folder, **shared):
        pass
    assert free() == []
    database.close()
