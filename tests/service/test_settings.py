import pytest
from pydantic import ValidationError

from search_spaces.errors import InvalidOptionError
from service.settings import Settings, is_loopback


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)


def test_everything_lies_in_the_data_folder_by_default(tmp_path):
    settings = Settings(data_dir=tmp_path)
    assert settings.objects == (tmp_path / "objects").as_uri()
    assert settings.database == f"sqlite:///{tmp_path}/records.sqlite3"
    assert is_loopback(settings.host)
    assert settings.ray_address is None


def test_the_environment_is_read_also_where_some_values_are_given(monkeypatch, tmp_path):
    monkeypatch.setenv("ARCHPRIOR_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ARCHPRIOR_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-token")
    settings = Settings.model_validate({"port": 0})
    assert (settings.data_dir, settings.max_attempts, settings.port) == (tmp_path, 5, 0)
    assert settings.ray_token.get_secret_value() == "secret-token"
    assert "secret-token" not in repr(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "archprior.example"])
def test_listening_beyond_this_machine_takes_keys_or_a_word(tmp_path, host):
    assert not Settings(data_dir=tmp_path, host=host).may_be_open
    assert Settings(data_dir=tmp_path, host=host, allow_open=True).may_be_open
    assert Settings(data_dir=tmp_path).may_be_open


@pytest.mark.parametrize(
    ("field", "value"), [("log_level", "loud"), ("ray_address", "ray://head:10001"), ("ray_address", "head:8265")]
)
def test_values_of_another_form_are_refused(tmp_path, field, value):
    with pytest.raises(ValidationError, match=field):
        Settings.model_validate({"data_dir": tmp_path, "store_url": "s3://bucket", field: value})


def test_services_on_one_database_need_one_ray_and_one_store(tmp_path):
    url = "postgresql://archprior@records/archprior"
    with pytest.raises(InvalidOptionError, match="ARCHPRIOR_SINGLE_SERVICE"):
        Settings(data_dir=tmp_path, database_url=url, store_url="s3://bucket")
    with pytest.raises(InvalidOptionError, match="ARCHPRIOR_STORE_URL"):
        Settings(data_dir=tmp_path, database_url=url, ray_address="http://127.0.0.1:8265")
    Settings(data_dir=tmp_path, database_url=url, ray_address="http://127.0.0.1:8265", store_url="s3://bucket")
    Settings(data_dir=tmp_path, database_url=url, single_service=True)


def test_a_remote_cluster_needs_a_store_that_it_can_reach(tmp_path):
    with pytest.raises(InvalidOptionError, match="s3://"):
        Settings(data_dir=tmp_path, ray_address="http://ray-head:8265")
    Settings(data_dir=tmp_path, ray_address="http://ray-head:8265", store_url="s3://bucket")
    Settings(data_dir=tmp_path, ray_address="http://127.0.0.1:8265")
