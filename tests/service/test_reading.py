import pytest

from service.reading import Reading
from workers.contracts.errors import StoreError


def test_after_its_first_failure_the_store_is_not_asked_again_in_the_same_answer():
    asked = []

    def fail():
        asked.append("store")
        raise StoreError("the store does not answer")

    reading = Reading()
    assert reading.ask(lambda: 7) == 7
    with pytest.raises(StoreError, match=r"^the store does not answer$"):
        reading.ask(fail)
    with pytest.raises(StoreError, match=r"not read.*the store does not answer"):
        reading.ask(fail)
    assert len(asked) == 1
    assert Reading().ask(lambda: 8) == 8
