import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest

from service.background import in_background

HANGS = """
import asyncio, threading
from service.background import in_background

async def main():
    begun = threading.Event()
    def hang():
        begun.set()
        threading.Event().wait()
    task = asyncio.create_task(in_background(hang))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()

asyncio.run(main())
"""


def test_what_a_call_returns_or_raises_is_handed_on():
    assert asyncio.run(in_background(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_background(lambda: 1 / 0))


def test_a_call_runs_beside_the_loop_in_the_context_of_whoever_asks():
    name = contextvars.ContextVar("name")

    async def main():
        name.set("ann")
        return await in_background(lambda: (threading.current_thread(), name.get()))

    thread, told = asyncio.run(main())
    assert (thread is threading.main_thread(), told) == (False, "ann")


def test_a_call_that_hangs_holds_up_neither_the_loop_nor_the_exit_of_the_process():
    ended = subprocess.run([sys.executable, "-c", HANGS], timeout=60, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_call_that_nobody_waits_for_any_more_comes_to_its_end():
    released, ended = threading.Event(), threading.Event()

    def call():
        released.wait(20.0)
        ended.set()

    async def main():
        task = asyncio.create_task(in_background(call))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()

    asyncio.run(main())
    assert ended.wait(20.0)
