import pickle

import pytest

from service.client.errors import ServiceError, problem_of
from service.schemas import Problem


def test_an_error_survives_pickling():
    error = ServiceError(Problem(title="no", status=404, detail="nothing there", code="not_found", errors=("a",)))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.problem, str(copy)) == (error.problem, str(error))


def test_a_detail_that_repeats_title_and_advice_is_told_once():
    problem = Problem(title="no space", status=404, detail="no space: got 'x'. Name one.", todo="Name one.", code="c")
    assert str(ServiceError(problem)) == "no space: got 'x'. Name one."


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b"{}", b'{"title": 3, "code": "x"}', b"\xff\xfe", b"x" * 5000])
def test_any_body_makes_a_problem(body):
    problem = problem_of(599, body)
    assert (problem.status, problem.code) == (599, "http_599")
    assert len(problem.detail) <= 500
