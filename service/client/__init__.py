from service.client.client import Client
from service.client.errors import BadDownloadError, ServiceError, ServiceUnreachableError
from service.client.retries import RetryPolicy

__all__ = ["BadDownloadError", "Client", "RetryPolicy", "ServiceError", "ServiceUnreachableError"]
