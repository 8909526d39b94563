"""A service that ends in mid-adaptation, and its successor on the same data folder."""

import signal

import pytest

from workers.contracts.adaptations import AdaptationRequest

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

REQUEST = AdaptationRequest(prior="none", search="supernet", budget_s=15)


def test_a_killed_service_finds_its_ray_and_its_job_again(serve, digits_zip):
    with serve() as killed:
        posted = killed.client.create_adaptation(REQUEST, archive=digits_zip)
        killed.wait_until_it_works(posted.id)
        ray = killed.ray()
        assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    assert ray.lives()
    with serve() as successor:
        assert successor.ray() == ray
        view = successor.wait(posted.id)
        assert view.state == "SUCCEEDED", view.error
        assert view.attempt == 1


def test_a_stopped_service_ends_its_ray_and_its_successor_begins_a_new_attempt(serve, digits_zip):
    with serve() as stopped:
        posted = stopped.client.create_adaptation(REQUEST, archive=digits_zip)
        stopped.wait_until_it_works(posted.id)
        ray = stopped.ray()
        assert stopped.end(signal.SIGTERM) == 0
        assert stopped.footprint.gone(), stopped.footprint.processes()
        assert not ray.folder.exists()
    with serve() as successor:
        assert successor.ray().pid != ray.pid
        view = successor.wait(posted.id)
        assert view.state == "SUCCEEDED", view.error
        assert view.attempt == 2
        assert successor.ask_ray(f"/api/jobs/{posted.id}-a2")["status"] in {"RUNNING", "SUCCEEDED"}
