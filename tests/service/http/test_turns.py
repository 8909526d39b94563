import asyncio

import pytest

from service.errors import QuotaExceededError
from service.http.turns import Turns


@pytest.mark.parametrize("per_owner", [1, 2])
def test_an_owner_has_so_many_turns_and_gets_each_back_after_an_error(per_owner):
    async def main():
        turns = Turns("it is being read already", per_owner=per_owner)

        async def fill(num_left):
            if num_left:
                async with turns.one_of("ann"):
                    await fill(num_left - 1)
                return
            async with turns.one_of("bob"):
                pass
            with pytest.raises(QuotaExceededError, match=f"being read already.*{per_owner} at a time") as refused:
                async with turns.one_of("ann"):
                    pytest.fail("let in")
            assert refused.value.retry_after_s > 0.0
            1 / 0  # noqa: B018

        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await fill(per_owner)

    asyncio.run(main())


def test_of_many_owners_a_handful_have_their_turn_at_once_and_the_others_wait():
    async def main():
        turns, inside, most = Turns("full", per_owner=1, max_at_once=2), 0, 0

        async def attempt(owner):
            nonlocal inside, most
            async with turns.one_of(owner):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(attempt(f"owner-{number}") for number in range(6)))
        return most

    assert asyncio.run(main()) == 2


def test_a_turn_that_is_waited_for_counts_and_is_given_back_when_the_wait_is_broken_off():
    async def main():
        turns = Turns("full", per_owner=1, max_at_once=1)

        async def wait():
            async with turns.one_of("ann"):
                pytest.fail("let in")

        async with turns.one_of("bob"):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            with pytest.raises(QuotaExceededError):
                await wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with turns.one_of("ann"):
            pass

    asyncio.run(main())
