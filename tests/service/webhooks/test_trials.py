import asyncio

import pytest

from service.errors import QuotaExceededError
from service.webhooks.trials import Trials


def test_an_owner_has_one_place_and_gets_it_back_after_an_error():
    async def main():
        trials = Trials()
        async with trials.one_of("ann"), trials.one_of("bob"):
            with pytest.raises(QuotaExceededError) as refused:
                async with trials.one_of("ann"):
                    pytest.fail("let in")
            assert refused.value.retry_after_s > 0.0
        with pytest.raises(ZeroDivisionError):
            async with trials.one_of("ann"):
                1 / 0  # noqa: B018
        async with trials.one_of("ann"):
            pass

    asyncio.run(main())


def test_of_many_owners_a_handful_try_at_once_and_the_others_wait():
    async def main():
        trials, inside, most = Trials(2), 0, 0

        async def attempt(owner):
            nonlocal inside, most
            async with trials.one_of(owner):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(attempt(f"owner-{number}") for number in range(6)))
        return most

    assert asyncio.run(main()) == 2
