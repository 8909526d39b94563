"""What holds of the two clients together: the same calls, with the same words."""

import asyncio
import inspect

import pytest

from service.client import AsyncClient, Client
from service.client.blocking import iterate, run

KINDS_OF_CLOSING = {"close", "aclose"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")} - KINDS_OF_CLOSING


def test_both_clients_have_the_same_calls():
    assert public(Client) == public(AsyncClient)


@pytest.mark.parametrize("name", sorted(public(Client) - {"base_url"}))
def test_a_call_of_the_blocking_client_is_that_of_the_other(name):
    blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.signature(blocking) == inspect.signature(awaited)
    assert blocking.__doc__ == awaited.__doc__
    assert not inspect.iscoroutinefunction(blocking)


def test_the_blocking_client_works_within_an_event_loop(server, answer):
    """As in a notebook."""
    server.answer(answer(body=b'{"ok": true}'))

    async def main() -> bool:
        with Client(server.url) as client:
            return client.health().ok

    assert asyncio.run(main())


def test_a_coroutine_that_would_wait_is_refused():
    class Waiting:
        def __await__(self):
            yield "to the event loop"

    async def work() -> None:
        await Waiting()

    with pytest.raises(RuntimeError, match="waited for an event loop"):
        run(work())


def test_what_yields_is_closed_when_nobody_asks_for_more():
    closed = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    for number in (asked := iterate(numbers())):
        assert number == 1
        break
    asked.close()
    assert closed == [True]
    assert list(iterate(numbers())) == [1, 2]
