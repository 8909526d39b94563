"""Calls that may hang, on threads for which the end of the process does not wait.

Threads of anyio and of executors are waited for at exit: a store or a database that is silent would delay it for as
long as its client has patience, which may be minutes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

Answer = TypeVar("Answer")


async def in_background(call: Callable[[], Answer]) -> Answer:
    """Return what a call returns, or raise what it raises. Who is cancelled meanwhile leaves it to itself.

    Args:
        call: What to do, on a thread of its own: a question to a database or a store takes longer than starting one.
    """
    result: Future[Answer] = Future()
    result.set_running_or_notify_cancel()  # from now on it comes to its end, whoever waits for it

    context = copy_context()

    def run() -> None:
        try:
            result.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001 -- handed on, whatever it is
            result.set_exception(error)

    Thread(target=run, name="background", daemon=True).start()
    return await asyncio.wrap_future(result)
