"""What the service reads from the environment (`ARCHPRIOR_*`)."""

import ipaddress
import os
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from search_spaces.errors import InvalidOptionError
from service.logs import LogLevel

GIB = 1 << 30


class Settings(BaseSettings):
    """The service's configuration. Every field may be given as `ARCHPRIOR_<NAME>`.

    Attributes:
        data_dir: Folder for records, objects and what is remembered of the local Ray; one service process at a time.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        allow_open: Listen beyond loopback although everyone who reaches the service may use it.
        store_url: Where objects lie. Absent: a folder in `data_dir`.
        database_url: Where records lie. A SQLite file; absent: one in `data_dir`.
        ray_address: Dashboard address of a running cluster. Absent: a local Ray is started as a child.
        ray_token: Token of that cluster; Ray's own variable.
        ray_num_cpus: CPUs of the local Ray. Absent: all of this machine.
        max_submitted_jobs: Adaptations that run at once; the others stay QUEUED. Absent: as many as find CPUs.
        max_meta_runs: Meta-runs that learn at once, and comparisons that run at once; the others stay QUEUED.
        max_attempts: Attempts before a job that keeps getting lost counts as failed; of a meta-run, those in a row that
            reached no new checkpoint.
        cancel_grace_s: Seconds a job has to end by itself once it is asked to cancel.
        stop_grace_s: Seconds a meta-run has to publish its prior once it is asked to stop.
        reconcile_interval_s: Seconds between two looks at what is not finished.
        max_upload_bytes: Largest archive that is taken.
        max_prior_bytes: Largest tensors of an imported prior that are taken.
        log_level: Of the service's own log.
    """

    model_config = SettingsConfigDict(env_prefix="ARCHPRIOR_", frozen=True, populate_by_name=True)

    data_dir: Path = Path("~/.archprior")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    allow_open: bool = False
    store_url: str | None = None
    database_url: str | None = None
    ray_address: str | None = None
    ray_token: SecretStr | None = Field(None, validation_alias="RAY_AUTH_TOKEN")
    ray_num_cpus: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    max_submitted_jobs: int | None = Field(None, ge=1)
    max_meta_runs: int = Field(1, ge=1)
    max_attempts: int = Field(3, ge=1)
    cancel_grace_s: float = Field(10.0, ge=0)
    stop_grace_s: float = Field(120.0, ge=0)
    reconcile_interval_s: float = Field(0.5, gt=0)
    max_upload_bytes: int = Field(2 * GIB, ge=1)
    max_prior_bytes: int = Field(GIB // 4, ge=1)
    log_level: LogLevel = "INFO"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, data_dir: Path) -> Path:
        return data_dir.expanduser().absolute()

    @field_validator("ray_address")
    @classmethod
    def _http(cls, ray_address: str | None) -> str | None:
        if ray_address is not None:
            parts = urlsplit(ray_address)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("expected the dashboard's address, such as http://ray-head:8265")
        return ray_address

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.allow_open or is_loopback(self.host)):
            raise InvalidOptionError(
                "the service has no keys yet, so it listens on loopback only",
                got=self.host,
                expected="127.0.0.1, ::1 or localhost",
                todo="Set ARCHPRIOR_ALLOW_OPEN=1 if whoever reaches that address may use it.",
            )
        remote = self.ray_address is not None and not is_loopback(urlsplit(self.ray_address).hostname or "")
        if remote and urlsplit(self.objects).scheme in {"", "file"}:
            raise InvalidOptionError(
                "a remote Ray cannot read a folder of this machine",
                got=self.objects,
                expected="ARCHPRIOR_STORE_URL of the form s3://bucket/prefix",
            )
        return self

    @property
    def objects(self) -> str:
        """The address of the object store."""
        return self.store_url or (self.data_dir / "objects").as_uri()

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of the records."""
        return self.database_url or f"sqlite:///{self.data_dir / 'records.sqlite3'}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host of that name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
