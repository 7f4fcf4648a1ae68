"""Objects below a URI of an object store, through obstore: one sentence for each fault, without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from simshard.shards.errors import StoreError, StoreReadOnly
from simshard.shards.snapshot_store import Stored

# What each scheme's credentials, and its endpoint where it is another one than the cloud's, are called.
VARIABLES = {
    "s3": ("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_BASE_URL"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY", "AZURE_ENDPOINT"),
}

_URI = re.compile(r"([a-z0-9+.-]+)://([^/?#@:]*)(?:/([^?#]*))?")
_RETRIES: Any = {  # some seconds in all: then it is told that the bucket is away
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=3), "base": 2},
}
_CLIENT: Any = {"connect_timeout": "5s", "timeout": "30s"}
_PART = 8 << 20
_NO_BUCKET = "there is no such bucket; create it, or name another"


def is_uri(store: str) -> bool:
    """Whether a store is named by a URI, and not by a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", store) is not None


@dataclass(frozen=True)
class Found:
    """An object of a listing; `modified` is what the bucket's clock said when it was written."""

    path: str
    bytes: int
    modified: datetime


class Bucket:
    """What lies below a URI such as s3://BUCKET/FOLDER. Raises StoreError for one that is none."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        parts = _URI.fullmatch(self.uri)
        scheme = parts[1] if parts else ""
        if parts is None or scheme not in VARIABLES or not parts[2]:
            known = ", ".join(f"{name}://BUCKET/FOLDER" for name in VARIABLES)
            shown = re.sub(r"//[^/]*@", "//…@", uri.partition("?")[0])
            raise StoreError(f"{shown}: a store is a path, or one of {known}, without user, port or options")
        self._variables, endpoint = VARIABLES[scheme]
        self._endpoint = endpoint
        options = dict(_CLIENT)
        if os.environ.get(endpoint, "").startswith("http://"):
            options["allow_http"] = True
        with self._told("opened"):
            from obstore.store import from_url

            config: Any = {}
            if scheme == "s3" and not {"AWS_REGION", "AWS_DEFAULT_REGION"} & set(os.environ):
                config["region"] = "us-east-1"
            opener: Any = from_url
            self._store: Any = opener(self.uri, config=config, client_options=options, retry_config=_RETRIES)

    def read(self, path: str, known: Stored | None = None) -> Stored | None:
        """An object; None where there is none. `known` itself, while the object is still that. Raises StoreError."""
        import obstore
        from obstore.exceptions import NotFoundError, NotModifiedError

        options: Any = None if known is None else {"if_none_match": str(known.version)}
        with self._told("read", path):
            try:
                found = obstore.get(self._store, path, options=options)
                return Stored(bytes(found.bytes()), found.meta["e_tag"])
            except (FileNotFoundError, NotFoundError):
                return None
            except NotModifiedError:
                return known

    def write(self, path: str, content: bytes, known: Stored | None) -> bool:
        """Write an object if it is still `known`, None: if there is none yet; whether it was. Raises StoreError."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if known is None else {"e_tag": str(known.version)}
        with self._told("written", path):
            try:
                obstore.put(self._store, path, content, mode=mode, use_multipart=False)
                return True
            except (AlreadyExistsError, PreconditionError):
                return False

    def put(self, path: str, content: bytes) -> None:
        """Write an object, whatever is there. Raises StoreError."""
        import obstore

        with self._told("written", path):
            obstore.put(self._store, path, content, use_multipart=False)

    def upload(self, file: Path, path: str, note: str) -> None:
        """Write a file as an object, in parallel parts, with a note that `note_of` reads. Raises StoreError."""
        import obstore

        with self._told("written", path):
            obstore.put(self._store, path, file, attributes={"simshard": note}, chunk_size=_PART, max_concurrency=8)

    def note_of(self, path: str) -> str | None:
        """The note of an object; None where there is none. Raises StoreError."""
        import obstore
        from obstore.exceptions import NotFoundError

        with self._told("read", path):
            try:
                options: Any = {"head": True}
                found = obstore.get(self._store, path, options=options).attributes.get("simshard")
                return None if found is None else str(found)
            except (FileNotFoundError, NotFoundError):
                return None

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Bytes of an object; fewer where it ends before. Raises StoreError."""
        import obstore

        with self._told("read", path):
            return bytes(obstore.get_range(self._store, path, start=start, end=stop))

    def find(self, path: str) -> Found | None:
        """What there is of an object; None where there is none. Raises StoreError."""
        import obstore
        from obstore.exceptions import NotFoundError

        with self._told("read", path):
            try:
                found = obstore.head(self._store, path)
                return Found(path, found["size"], found["last_modified"])
            except (FileNotFoundError, NotFoundError):
                return None

    def list(self, prefix: str = "") -> list[Found]:
        """All objects below a prefix. Raises StoreError."""
        import obstore

        with self._told("listed", prefix):
            return [
                Found(each["path"], each["size"], each["last_modified"])
                for page in obstore.list(self._store, prefix or None)
                for each in page
            ]

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects; what is gone already is no fault. Raises StoreError."""
        import obstore

        with self._told("removed", *paths[:1]):
            obstore.delete(self._store, paths)

    @contextmanager
    def _told(self, what: str, path: str = "") -> Iterator[None]:
        """Faults of obstore as one sentence."""
        from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError

        place = f"{self.uri}/{path}" if path else self.uri
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            kind = StoreReadOnly if what in ("written", "removed") else StoreError
            raise kind(f"{place}: may not be {what}; these credentials do not allow it") from error
        except (FileNotFoundError, NotFoundError) as error:
            raise StoreError(
                f"{place}: cannot be {what}: there is no such bucket; create it, or name another"
            ) from error
        except (BaseError, ValueError) as error:
            text = " ".join(str(error).split())
            if re.search(r"[Cc]redential|metadata endpoint|169\.254\.169\.254", text):
                reason = f"no credentials were found; set {self._variables}"
            elif re.search(r"NoSuchBucket|ContainerNotFound|bucket does not exist", text):
                reason = _NO_BUCKET
            else:
                reason = f"{_cause(text)}; if the service is elsewhere, set {self._endpoint}"
            raise StoreError(f"{place}: cannot be {what}: {reason}") from error


def _cause(text: str) -> str:
    """The part of obstore's message that is not Rust."""
    text = text.partition(" Debug source:")[0]
    return re.sub(r"\?[^ )]*", "", text)[:300]
