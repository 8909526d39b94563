"""From what boto3 raises to the errors of a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from workers.contracts.errors import ObjectMissingError, StoreError

_MISSING_OBJECT: Final = {"NoSuchKey", "404", "NotFound"}
_REFUSED: Final = {"403", "401", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_PAST_THE_END: Final = {"InvalidRange", "416"}


class PastTheEndError(StoreError):
    """A range that begins where the object has ended: nothing to read."""


class AlreadyThereError(StoreError):
    """Somebody else has made the bucket since we looked."""


@contextmanager
def store_errors(endpoint: str, bucket: str, key: str) -> Iterator[None]:
    """Raise what boto3 says as an error of the store, which names the server and the key.

    Raises:
        ObjectMissingError: There is no such object, or no such upload.
        PastTheEndError, AlreadyThereError: As they say.
        StoreError: The server refused, failed, or could not be reached.
    """
    try:
        yield
    except ClientError as error:
        raise _refusal(endpoint, bucket, key, error) from error
    except NoCredentialsError as error:
        todo = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE."
        raise StoreError(f"no credentials for {endpoint}", todo=todo) from error
    except (BotoCoreError, Boto3Error) as error:
        todo = "Check that the server runs and that the endpoint is right."
        raise StoreError(f"{endpoint} failed ({error})", got=key, todo=todo) from error


def missing(key: str) -> ObjectMissingError:
    """Return the error that tells a missing object."""
    return ObjectMissingError("the store has no such object", got=key)


def _refusal(endpoint: str, bucket: str, key: str, error: ClientError) -> StoreError:
    code = error.response.get("Error", {}).get("Code", "")
    if code in _MISSING_OBJECT:
        return missing(key)
    if code == "NoSuchUpload":
        return ObjectMissingError("the store has no such upload", got=key, todo="Begin another one.")
    if code in _PAST_THE_END:
        return PastTheEndError("a byte range past the object's end", got=key)
    if code == "BucketAlreadyOwnedByYou":
        return AlreadyThereError("the bucket exists already", got=key)
    if code == "NoSuchBucket":
        return StoreError(f"no such bucket at {endpoint}", got=bucket, todo="Mend the store's URL.")
    if code in _REFUSED:
        todo = "Check the access key, its secret, and what they permit on this bucket."
        return StoreError(f"{endpoint} refused access ({code})", got=key, todo=todo)
    return StoreError(f"{endpoint} failed ({error})", got=key, todo="Look into the server's log.")
