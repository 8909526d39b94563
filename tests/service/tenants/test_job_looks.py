"""Who reads logs and actors of jobs while Ray is silent, and who does not wait for that."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice

from service.errors import ClusterUnavailableError

NUM_REQUESTS = 12
TIMEOUT_S = 20.0


@contextmanager
def silent_ray(tenants):
    """Yield what is released each time that a silent Ray is asked for a job's log or actors; it fails in the end."""
    silent, asked = threading.Event(), threading.Semaphore(0)

    def wait(*_: object, **__: object) -> None:
        asked.release()
        assert silent.wait(2 * TIMEOUT_S)
        raise ClusterUnavailableError("Ray does not answer")

    tenants.service.cluster.observed.log = tenants.service.cluster.observed.actors = wait
    try:
        yield asked
    finally:
        silent.set()


def test_an_owner_has_two_looks_at_jobs_at_once_and_nobody_else_waits_for_them(new_tenants):
    with new_tenants() as tenants, ThreadPoolExecutor(NUM_REQUESTS) as pool:
        tenants.service.await_submission()
        path = f"/v1/adaptations/{tenants.ids['adaptation_id']}"
        with silent_ray(tenants) as asked:
            looks = [
                pool.submit(tenants.ask, "GET", f"{path}/{('log', 'actors')[number % 2]}", token=tenants.ann)
                for number in range(NUM_REQUESTS)
            ]
            for look in islice(as_completed(looks, timeout=TIMEOUT_S), NUM_REQUESTS - 2):
                refused = look.result()
                assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
                assert int(refused.headers["Retry-After"]) >= 1
            assert all(asked.acquire(timeout=TIMEOUT_S) for _ in range(2))
            assert tenants.ask("GET", f"{path}/log", token=tenants.bob).status_code == 404
            assert tenants.ask("GET", "/v1/overview", token=tenants.ann).status_code == 200
        statuses = Counter(look.result(TIMEOUT_S).status_code for look in looks)
        assert statuses == {503: 2, 429: NUM_REQUESTS - 2}
        # Those who were refused, and those who have waited, may come again.
        assert tenants.ask("GET", f"{path}/log", token=tenants.ann).status_code == 503


def test_an_overview_waits_for_no_look_at_a_job(new_tenants):
    with new_tenants() as tenants, ThreadPoolExecutor(1) as pool:
        tenants.service.await_submission()
        tenants.service.parts.job_look_threads.total_tokens = 1
        path = f"/v1/adaptations/{tenants.ids['adaptation_id']}"
        with silent_ray(tenants) as asked:
            pool.submit(tenants.ask, "GET", f"{path}/log", token=tenants.ann)
            assert asked.acquire(timeout=TIMEOUT_S)
            assert tenants.ask("GET", "/v1/overview", token=tenants.bob).status_code == 200
