"""What an adaptation's view says beyond its record."""

from service.adaptations.attempts import AttemptFiles
from service.adaptations.views import Views
from service.records.transitions import Change


def test_an_attempt_has_a_job_to_look_at_once_it_was_submitted(records, add_adaptation, store, cluster):
    views = Views(adaptations=records, store=store, cluster=cluster)

    def job_after(adaptation, *states):
        for state in states:
            seen = records.get(adaptation.id, owner="local")
            if state == "RUNNING":
                AttemptFiles(store, seen).write_request()
            assert records.change(seen, Change(state=state))
        (view,) = views.listed([records.get(adaptation.id, owner="local")])
        return view.links.job_id

    first, second = add_adaptation(), add_adaptation()
    assert job_after(first) is None
    assert job_after(first, "RUNNING") == f"{first.id}-a1"
    assert job_after(first, "QUEUED") is None
    assert job_after(first, "CANCELLED") is None
    assert job_after(second, "RUNNING", "QUEUED", "RUNNING") == f"{second.id}-a2"
    assert job_after(second, "FAILED") == f"{second.id}-a2"
