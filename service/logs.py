"""The service's log: one short line an event, on standard error."""

import logging
from typing import Literal

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure(level: LogLevel) -> None:
    """Give the service's loggers a handler, unless whoever runs the service has set one up."""
    own = logging.getLogger("service")
    own.setLevel(level)
    if not own.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(FORMAT))
        own.addHandler(handler)
