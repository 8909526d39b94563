"""Which pages in a browser may use a service without keys: it knows its caller by nothing but where it calls from."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.errors import ForbiddenError
from service.settings import Settings, is_loopback


def require_own_page(headers: Headers, settings: Settings) -> None:
    """Refuse what a page of another site sends through the browser of somebody who may reach the service.

    Such a page names itself in `Origin`. One whose name was pointed to this machine afterwards (DNS rebinding) has an
    origin like the service's own, and shows in `Host`.

    Args:
        headers: Of the request.
        settings: Of the service.

    Raises:
        ForbiddenError: The request is one of these.
    """
    host, origin = headers.get("Host", ""), headers.get("Origin")
    if host and not settings.allow_open and not is_loopback(_name(host)):
        raise ForbiddenError(
            "a service without keys is called by a name of this machine only",
            got=host,
            expected="localhost, 127.0.0.1 or ::1",
            todo="`archprior keys create` makes a key, with which any name will do.",
        )
    if origin is not None and origin not in settings.cors_origins and origin.partition("://")[2] != host:
        raise ForbiddenError(
            "pages of other sites may not use this service",
            got=origin,
            todo="ARCHPRIOR_CORS_ORIGINS names the origins that may.",
        )


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # no address
        return ""
