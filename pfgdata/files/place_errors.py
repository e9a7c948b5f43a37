"""What a server of objects refused, as one line that a user can act on; never a key, token or signed URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pfgdata.errors import ConfigError, PlaceError

__all__ = ["TakenError", "explained_place", "missing_extra"]

_QUERY = re.compile(r"\?[^\s\"]*")  # of a URL: in it a signature may stand
_USER = re.compile(r"(?<=://)[^/\s@]*@")  # of a server's address
_LONGEST = 300
_NO_CREDENTIALS = ("169.254.169.254", "169.254.170.2", "metadata.google", "identity/oauth2", "credential")
_REFUSED_KEYS = (
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthenticationFailed"),
    *("401 Unauthorized", "Unauthenticated", "invalid_grant"),
)
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist", "InvalidBucketName")
_FORBIDDEN = ("403 Forbidden", "AccessDenied", "AuthorizationPermissionMismatch")
_THROTTLED = ("503 Service", "429 Too Many", "SlowDown", "ServerBusy", "rateLimitExceeded")
_BROKEN = ("body", "500 Internal", "502 Bad", "504 Gateway", "incomplete", "connection")
_CHAIN = {
    "s3": "the AWS environment variables, ~/.aws/credentials, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
    "az": "the AZURE_STORAGE_ environment variables, or az login",
}


class TakenError(Exception):
    """The condition of a write did not hold: someone was first."""


def missing_extra(url: str) -> ConfigError:
    """For who names a bucket and has no client for it."""
    return ConfigError(f"{url}: buckets need a package that is not here; pip install 'pfg[remote]'")


@contextmanager
def explained_place(url: str, *, what: str) -> Iterator[None]:
    """Turn what obstore raises while `what` (reading, writing, listing) is done at `url` into ours.

    Raises FileNotFoundError where there is no such object, TakenError where a condition did not hold, else
    PlaceError.
    """
    try:
        yield
    except FileNotFoundError as problem:
        if problem.errno is not None:  # of a file of this machine, as are the other numbers below
            raise PlaceError(f"{url}: {what} failed ({problem}); run the same again") from None
        if bucket := _of_bucket(url, str(problem)):
            raise bucket from None
        raise FileNotFoundError(f"{url}: there is no such object") from None
    except Exception as problem:
        name = type(problem).__name__
        if not type(problem).__module__.startswith("obstore") and not isinstance(
            problem, (OSError, ValueError, NotImplementedError)
        ):
            raise
        if name in ("AlreadyExistsError", "PreconditionError") or "ConditionalRequestConflict" in str(
            problem
        ):
            raise TakenError(f"{url}: someone was first") from None
        if isinstance(problem, OSError) and problem.errno is not None:
            raise
        raise _told(url, _USER.sub("", str(problem)), name=name, what=what) from None


def _told(url: str, text: str, *, name: str, what: str) -> PlaceError:
    if bucket := _of_bucket(url, text):
        return bucket
    scheme = url.partition("://")[0]
    chain = _CHAIN.get(scheme, "the provider's own settings")
    if any(sign in text for sign in _REFUSED_KEYS):
        return PlaceError(f"{url}: its server refuses the credentials; check {chain}")
    if name == "PermissionDeniedError" or (any(sign in text for sign in _FORBIDDEN) and not _unsigned(text)):
        return PlaceError(f"{url}: no permission for {what}; ask who owns the bucket, or check {chain}")
    if _unsigned(text):
        return PlaceError(f"{url}: no credentials were found; set {chain}")
    again = not re.search(r"after \d+ retries", text)  # else the client has tried long enough
    if any(sign in text for sign in _THROTTLED):
        return PlaceError(f"{url}: its server is too busy; run the same again later", passes=again)
    if "error sending request" in text or "builder error" in text or "timed out" in text:
        where = re.search(r"https?://[^/\s]+", text)
        return PlaceError(
            f"{url}: {where[0] if where else 'its server'} does not answer; check the connection"
            f"{' and AWS_ENDPOINT_URL' if scheme == 's3' else ''}, then run the same again",
            passes=again,
        )
    code = re.search(r"<Code>(\w+)</Code>", text)
    line = _QUERY.sub("", " ".join(re.split(r":? *<\?xml|Debug source", text)[0].split()))
    line = f"{code[1]}: {line}" if code else line
    passes = again and any(sign in text for sign in _BROKEN)
    return PlaceError(f"{url}: {what} failed ({line[:_LONGEST]}); run the same again", passes=passes)


def _of_bucket(url: str, text: str) -> PlaceError | None:
    if not any(sign in text for sign in _NO_BUCKET):
        return None
    bucket = "/".join(url.split("/")[:3])
    return PlaceError(f"{url}: there is no bucket {bucket}; make it, or check the name and its endpoint")


def _unsigned(text: str) -> bool:
    """Whether the request never went out, as nothing to sign it with was found."""
    return any(sign in text for sign in _NO_CREDENTIALS)
