"""What the service reads from the environment (`ARCHPRIOR_*`)."""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from search_spaces.errors import InvalidOptionError
from service.logs import LogLevel
from service.records.database import is_shared

GIB = 1 << 30
_PREFIX = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,62}/(?:[^/?#]+/)*")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+")


class Settings(BaseSettings):
    """The service's configuration. Every field may be given as `ARCHPRIOR_<NAME>`.

    Attributes:
        data_dir: Folder for records, objects and what is remembered of the local Ray; one service process at a time.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        allow_open: Listen beyond loopback without any key, although everyone who reaches the service may use it.
        store_url: Where objects lie. Absent: a folder in `data_dir`.
        database_url: Where records lie: PostgreSQL or a SQLite file. Absent: one in `data_dir`.
        single_service: Whether no other service has its records in that PostgreSQL; else all of them need one Ray and
            one store.
        ray_address: Dashboard address of a running cluster. Absent: a local Ray is started as a child.
        ray_token: Token of that cluster; Ray's own variable.
        ray_token_path: File that holds it, in place of `ray_token`; Ray's own variable.
        dashboard_url: Where people reach that cluster's dashboard. Absent: at `ray_address`.
        ray_num_cpus: CPUs of the local Ray. Absent: all of this machine.
        max_submitted_jobs: Adaptations that are handed to Ray at once; the others stay QUEUED. They run as far as Ray
            finds CPUs for them, up to four for each worker. Absent: as many as find CPUs.
        max_meta_runs: Meta-runs that learn at once, and comparisons that run at once; the others stay QUEUED.
        max_attempts: Attempts before a job that keeps failing without a word counts as failed; those that the cluster
            lost do not count. Of a meta-run, those since its last new checkpoint.
        cancel_grace_s: Seconds a job has to end by itself once it is asked to cancel.
        stop_grace_s: Seconds a meta-run has to publish its prior once it is asked to stop.
        reconcile_interval_s: Seconds between two looks at what is not finished.
        max_upload_bytes: Largest archive that is taken.
        max_dataset_bytes: Largest archive that arrives in parts or is copied.
        disk_reserve_bytes: Bytes of a disk that stay free: what a request brings is refused, and an archive that has to
            be copied for its check waits.
        source_prefixes: Where datasets may be copied from, `s3://bucket/prefix/`, separated by commas; none by default.
            They are read with the service's own credentials, whoever names them.
        upload_expires_s: Seconds after which what was begun and not completed is forgotten.
        max_prior_bytes: Largest tensors of an imported prior that are taken.
        max_body_bytes: Largest body of a request that brings no files.
        max_header_bytes: Largest headers of a request, together.
        cors_origins: Whose pages may call the service from a browser, separated by commas; none by default.
        quota_bytes: Bytes of datasets that an owner may have who has no quota of its own. Absent: no limit.
        quota_unfinished: Adaptations and meta-runs of such an owner that may run or wait. Absent: no limit.
        quota_arriving: Datasets of an owner that may arrive in parts, be copied, or wait for their check.
        webhook_private_addresses: Whether webhooks may name addresses that only this network reaches.
        retention_days: Days after which `gc` takes what could still be of use: refused uploads, checkpoints of
            meta-runs that were stopped or have failed, old events, deliveries and audit entries.
        gc_interval_s: Seconds between two rounds of it; 0: only when an operator asks.
        log_level: Of the service's own log.
    """

    model_config = SettingsConfigDict(env_prefix="ARCHPRIOR_", frozen=True, populate_by_name=True)

    data_dir: Path = Path("~/.archprior")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    allow_open: bool = False
    store_url: str | None = None
    database_url: str | None = None
    single_service: bool = False
    ray_address: str | None = None
    ray_token: SecretStr | None = Field(None, validation_alias="RAY_AUTH_TOKEN")
    ray_token_path: Path | None = Field(None, validation_alias="RAY_AUTH_TOKEN_PATH")
    dashboard_url: str | None = None
    ray_num_cpus: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    max_submitted_jobs: int | None = Field(None, ge=1)
    max_meta_runs: int = Field(1, ge=1)
    max_attempts: int = Field(3, ge=1)
    cancel_grace_s: float = Field(10.0, ge=0)
    stop_grace_s: float = Field(120.0, ge=0)
    reconcile_interval_s: float = Field(0.5, gt=0)
    max_upload_bytes: int = Field(2 * GIB, ge=1)
    max_dataset_bytes: int = Field(50 * GIB, ge=1)
    disk_reserve_bytes: int = Field(10**9, ge=0)
    source_prefixes: Annotated[tuple[str, ...], NoDecode] = ()
    upload_expires_s: int = Field(24 * 3600, ge=60)
    max_prior_bytes: int = Field(GIB // 4, ge=1)
    max_body_bytes: int = Field(1 << 20, ge=1)
    max_header_bytes: int = Field(1 << 15, ge=1)
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    quota_bytes: int | None = Field(None, ge=0)
    quota_unfinished: int | None = Field(None, ge=0)
    quota_arriving: int = Field(100, ge=1)
    webhook_private_addresses: bool = False
    retention_days: float = Field(30.0, gt=0)
    gc_interval_s: float = Field(0.0, ge=0)
    log_level: LogLevel = "INFO"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, data_dir: Path) -> Path:
        return data_dir.expanduser().absolute()

    @field_validator("cors_origins", "source_prefixes", mode="before")
    @classmethod
    def _split(cls, listed: object) -> object:
        return tuple(filter(None, map(str.strip, listed.split(",")))) if isinstance(listed, str) else listed

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if _ORIGIN.fullmatch(origin) is None:
                raise ValueError(f"{origin} is no origin, such as https://lab.example")
        return origins

    @field_validator("source_prefixes")
    @classmethod
    def _prefixes(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in prefixes:
            if _PREFIX.fullmatch(prefix) is None:
                raise ValueError(f"{prefix} is no prefix, such as s3://bucket/folder/: its last sign is a slash")
        return prefixes

    @field_validator("ray_address", "dashboard_url")
    @classmethod
    def _http(cls, address: str | None) -> str | None:
        if address is not None:
            parts = urlsplit(address)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("expected the dashboard's address, such as http://ray-head:8265")
        return address

    @model_validator(mode="after")
    def _check(self) -> Self:
        remote = self.ray_address is not None and not is_loopback(urlsplit(self.ray_address).hostname or "")
        if remote and urlsplit(self.objects).scheme in {"", "file"}:
            raise InvalidOptionError(
                "a remote Ray cannot read a folder of this machine",
                got=self.objects,
                expected="ARCHPRIOR_STORE_URL of the form s3://bucket/prefix",
            )
        if is_shared(self.database) and not self.single_service and None in {self.ray_address, self.store_url}:
            raise InvalidOptionError(
                "services with common records need a common Ray and a common store",
                expected="ARCHPRIOR_RAY_ADDRESS and ARCHPRIOR_STORE_URL",
                todo="Set both, or ARCHPRIOR_SINGLE_SERVICE=1 if no other service uses that database.",
            )
        return self

    @property
    def may_be_open(self) -> bool:
        """Whether the service may do without keys: only this machine reaches it, or all who reach it may use it."""
        return self.allow_open or is_loopback(self.host)

    @property
    def objects(self) -> str:
        """The address of the object store."""
        return self.store_url or (self.data_dir / "objects").as_uri()

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of the records."""
        return self.database_url or f"sqlite:///{self.data_dir / 'records.sqlite3'}"


def no_keys(host: str) -> InvalidOptionError:
    """Return the refusal to listen at an address that others reach, while there is no key."""
    return InvalidOptionError(
        "the service has no keys, so it listens on loopback only",
        got=host,
        expected="127.0.0.1, ::1 or localhost",
        todo="Make a key with `archprior keys create --owner NAME --role operator`, or set ARCHPRIOR_ALLOW_OPEN=1 if "
        "whoever reaches that address may use it.",
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host of that name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
