from service.client.async_client import AsyncClient
from service.client.client import Client
from service.client.errors import BadDownloadError, ServiceError, ServiceUnreachableError
from service.client.retries import RetryPolicy

__all__ = ["AsyncClient", "BadDownloadError", "Client", "RetryPolicy", "ServiceError", "ServiceUnreachableError"]
