"""A service with keys: two owners, their things, and whoever may see to the service."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest


class Tenants:
    """A running service, the tokens of its keys, and ids of what `ann` has there."""

    def __init__(self, service, small_zip: bytes) -> None:
        self.service, self.keys = service, service.parts.keys
        self.ann = self.key("ann")
        self.bob = self.key("bob")
        self.operator = self.key("ops", role="operator")
        self.revoked = self.key("bob")
        self.keys.revoke(self.revoked.split("_")[1])
        service.client.headers["Authorization"] = f"Bearer {self.ann}"
        dataset = service.add_dataset(small_zip)
        service.client.patch(f"/v1/datasets/{dataset['id']}", json={"meta_use": True})
        adaptation = service.adapt(dataset_id=dataset["id"], prior="none")
        self.meta_run = {"datasets": [{"dataset_id": dataset["id"]}], "prior_id": "ann-v1"}
        self.ids = {"dataset_id": dataset["id"], "adaptation_id": adaptation["id"]}

    def key(self, owner: str, **fields: object) -> str:
        return self.keys.create(**{"owner": owner, "role": "user", **fields})[1]

    def ask(self, method: str, path: str, *, token: str | None = None, **rest: object) -> httpx.Response:
        authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=self.service.client.base_url, timeout=20.0, trust_env=False) as client:
            return client.request(method, path, headers={**authorization, **rest.pop("headers", {})}, **rest)


@pytest.fixture(scope="module")
def tenants(shared_service, small_zip) -> Tenants:
    """One service for a module's tests."""
    return Tenants(shared_service, small_zip)


@pytest.fixture
def new_tenants(new_service, tmp_path, small_zip) -> Callable[..., AbstractContextManager[Tenants]]:
    """Returns a function that starts a service with these settings and with keys."""
    from contextlib import contextmanager

    @contextmanager
    def start(**settings: object):
        with new_service(tmp_path / "data", **settings) as service:
            yield Tenants(service, small_zip)

    return start
