# -*- test-case-name: tests.test_errors -*-
"""
The errors of xferd, in one tree::

    XferdError
    ├── BadInput                   the client corrects the request
    │   ├── BadReference
    │   ├── BadDigest
    │   ├── BadPlatform
    │   ├── KeyReused              one Idempotency-Key, two requests
    │   ├── TooManyJobs            the client waits for other jobs to end
    │   ├── TooManyUploads         the client waits for other uploads to end
    │   ├── AmbiguousID            409: the client uses more characters of the ID
    │   ├── NotFound               the daemon has no such job, image or transfer
    │   │   └── UploadUnknown      the upload has ended: the client begins another
    │   ├── JobEnded               409: the job can no longer be changed
    │   ├── JobRunning             409: the client cancels the job before it retries it
    │   ├── PushRefused            the client pushes to another name
    │   ├── InUse                  409: the client ends the use of it first
    │   ├── PreconditionFailed     412: another client was faster
    │   ├── UploadBusy             two requests at once for one upload
    │   └── WrongOffset            a part of an archive or of an upload is out of order
    ├── SourceError                one source failed; another may work
    │   ├── Denied                 401 or 403: the client corrects the credentials
    │   ├── CredentialsUnavailable a credential helper failed: the operator repairs it
    │   ├── ManifestUnknown        404: the client corrects the name
    │   ├── BlobUnknown            404: the registry's owner repairs it
    │   │   └── ContentMissing     a manifest names it: the client pushes it first
    │   ├── TooManyRequests        429: a retry later helps
    │   ├── RegistryError          any other failure status
    │   │   ├── RegistryUnavailable    5xx: a retry later helps
    │   │   └── RequestLoop        508: the operator corrects the upstream or mirror
    │   ├── ConnectionFailed       no route, refused, reset, TLS
    │   ├── TimedOut               connect, TLS, headers, silence, too slow
    │   ├── Truncated              fewer bytes than promised
    │   └── ContentMismatch        the bytes differ from their descriptor
    │       ├── DigestMismatch
    │       └── SizeMismatch
    ├── BadImage                   the image's author corrects it
    │   ├── UnsupportedImage       schema 1, an artifact, an unknown layer type
    │   ├── NoSuchPlatform         the index has other platforms only
    │   ├── BadDocument            a manifest, index or config that violates its specification
    │   ├── BadArchive             a file without images, or with damaged ones
    │   ├── BadLayer               a layer that is not a tar, escapes its tree, is inconsistent or is a bomb
    │   └── DiffIDMismatch         a layer differs from the one in the config
    ├── StoreError                 the operator repairs it
    │   ├── DiskFull
    │   ├── StoreDamaged           a verification could not repair it
    │   └── StoreLocked            another daemon uses the data directory
    ├── WorkerLost                 an unpacking process died
    ├── EngineFailed               a container engine does not answer, or refuses
    ├── CoordinationUnavailable    the fleet's etcd does not answer: the operator repairs it
    ├── Draining                   503: the daemon starts no new work
    ├── Interrupted                the daemon stopped
    └── ConfigError                the operator corrects an option or a file

They are in one module, which is long for that reason: the tree is read as a whole.

Each class has a stable C{code}, shown by the HTTP API, xferctl and the status
page, and declares whether a retry can help.  A message is one sentence that
names the object and, where there is one, the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from reprlib import Repr
from typing import ClassVar, Final

MAX_MESSAGE: Final = 500
"""The most characters of a message."""

MAX_QUOTED: Final = 150
"""The most characters of a quoted value: enough for a digest."""

_END: Final = 180
"""Characters kept at the end of a truncated message, where the remedy is."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def quoted(value: object) -> str:
    """
    Quote an external value in a message: on one line, truncated to
    L{MAX_QUOTED} characters.
    """
    shorter = Repr()
    shorter.maxstring = shorter.maxlong = shorter.maxother = MAX_QUOTED
    shorter.maxlevel = 2
    text = shorter.repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 3]}..."


def shown(text: str) -> str:
    """
    Make external text printable for a message, and truncate it to 100 characters.
    """
    line = "".join(c if c.isprintable() else "?" for c in text)
    return line if len(line) <= 100 else f"{line[:97]}..."


def _cut(text: str) -> str:
    """
    Truncate a message in the middle.
    """
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - _END - 5]} ... {text[-_END:]}"


def _escaped(text: str) -> str:
    """
    Put a message on one line, without control sequences, of at most
    L{MAX_MESSAGE} characters.
    """
    text = _SURROGATE.sub("\ufffd", _cut(text))
    if text.isprintable():
        return text
    return _cut("".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text))


class XferdError(Exception):
    """
    The base class of xferd's errors.

    A message may quote a registry, a tar or a file name.  Lone surrogates in
    it are replaced by U+FFFD, so that every message can be written as UTF-8;
    other characters that are not printable are escaped.  A message that is
    longer than L{MAX_MESSAGE} is truncated in the middle.

    @cvar code: a stable code for programs, C{[A-Z_]+}.
    @cvar retryable: whether a retry of the same call may succeed.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, *args: object) -> None:
        super().__init__(*(_escaped(a) if isinstance(a, str) else a for a in args))


def causes(error: BaseException) -> Iterator[BaseException]:
    """
    An error and its causes, the outermost first.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def is_retryable(error: BaseException) -> bool:
    """
    Whether a retry can help.  All causes count: a wrapper does not make a final
    error retryable.

    An error of another class is a bug, or unknown, and is not retried.
    """
    ours = [e for e in causes(error) if isinstance(e, XferdError)]
    return bool(ours) and all(e.retryable for e in ours)


# --------------------------------------------------------------- bad input


class BadInput(XferdError):
    """
    The request is invalid.
    """

    code = "BAD_INPUT"


class BadReference(BadInput):
    """
    The text is not an image reference.
    """

    code = "NAME_INVALID"

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{quoted(text)} is not an image reference: {why}")


class BadDigest(BadInput):
    """
    The text is not a digest.
    """

    code = "DIGEST_INVALID"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{quoted(text)} is not a digest that xferd can verify: sha256:<64 hex> or sha512:<128 hex>"
        )


class BadPlatform(BadInput):
    """
    The text is not a platform.
    """

    code = "PLATFORM_INVALID"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{quoted(text)} is not a platform: os/architecture[/variant], for example linux/arm64/v8"
        )


class KeyReused(BadInput):
    """
    The C{Idempotency-Key} belongs to another request.
    """

    code = "IDEMPOTENCY_KEY_REUSED"


class TooManyJobs(BadInput):
    """
    The number of unfinished jobs is at its limit.
    """

    code = "TOO_MANY_JOBS"
    retryable = True


class JobEnded(BadInput):
    """
    The job has ended, and can no longer be changed.
    """

    code = "JOB_ENDED"


class JobRunning(BadInput):
    """
    The job has not ended, and cannot be retried.
    """

    code = "JOB_RUNNING"


class AmbiguousID(BadInput):
    """
    Several jobs have IDs that begin with the text.
    """

    code = "AMBIGUOUS_ID"


class NotFound(BadInput):
    """
    The daemon has no such job, image or transfer.
    """

    code = "NOT_FOUND"


class TooManyUploads(BadInput):
    """
    The number of upload sessions of the registry is at its limit.
    """

    code = "TOO_MANY_UPLOADS"
    retryable = True


class UploadUnknown(NotFound):
    """
    The registry has no such upload session.
    """

    code = "UPLOAD_UNKNOWN"


class UploadBusy(BadInput):
    """
    Another request sends bytes to the upload session.
    """

    code = "UPLOAD_BUSY"
    retryable = True


class PreconditionFailed(BadInput):
    """
    A manifest is not, or no longer, the one that the client expects.
    """

    code = "PRECONDITION_FAILED"


class PushRefused(BadInput):
    """
    The repository mirrors another registry, so that nothing can be pushed to it or
    deleted there.
    """

    code = "PUSH_REFUSED"


class InUse(BadInput):
    """
    Something cannot be removed while it is used.
    """

    code = "IN_USE"


class WrongOffset(BadInput):
    """
    A part of an archive or of an upload is not the next one.

    @ivar offset: the bytes received so far, where the next part begins.
    """

    code = "OFFSET_INVALID"

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


# ----------------------------------------------------------- source errors


class SourceError(XferdError):
    """
    One source failed; another source may work.

    @ivar host: the registry's host.
    @ivar status: the HTTP status of the response, or L{None}.
    @ivar retry_after: the delay in seconds that the source requests before the
        next attempt, or L{None}.
    """

    code = "SOURCE_FAILED"

    def __init__(
        self,
        message: str,
        *,
        host: str = "",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.host = host
        self.status = status
        self.retry_after = retry_after


class Denied(SourceError):
    """
    The registry rejects the credentials, or denies access (401, 403).
    """

    code = "DENIED"


class CredentialsUnavailable(SourceError):
    """
    A credential helper is configured for the registry and fails.
    """

    code = "CREDENTIALS_UNAVAILABLE"


class ManifestUnknown(SourceError):
    """
    The registry has no such image.
    """

    code = "MANIFEST_UNKNOWN"


class BlobUnknown(SourceError):
    """
    The registry has no such blob in this repository.
    """

    code = "BLOB_UNKNOWN"


class ContentMissing(BlobUnknown):
    """
    A manifest names a blob or a manifest that its repository does not have.
    """

    code = "MANIFEST_BLOB_UNKNOWN"


class TooManyRequests(SourceError):
    """
    The registry's rate limit is reached (429).
    """

    code = "TOOMANYREQUESTS"
    retryable = True


class RegistryError(SourceError):
    """
    The registry returned an unexpected status or response.
    """

    code = "REGISTRY_ERROR"


class RequestLoop(RegistryError):
    """
    The upstream, or a mirror of it, is this daemon's own registry (508).
    """

    code = "REQUEST_LOOP"


class RegistryUnavailable(RegistryError):
    """
    The registry reports an error of its own (5xx).
    """

    code = "REGISTRY_UNAVAILABLE"
    retryable = True


class ConnectionFailed(SourceError):
    """
    The connection cannot be established, or is lost.
    """

    code = "CONNECTION_FAILED"
    retryable = True


class TimedOut(SourceError):
    """
    A time limit is exceeded.

    @ivar phase: C{connect}, C{headers}, C{silence}, C{rate} or C{token}.
    """

    code = "TIMED_OUT"
    retryable = True

    def __init__(self, message: str, *, phase: str, host: str = "") -> None:
        super().__init__(message, host=host)
        self.phase = phase


class Truncated(SourceError):
    """
    The body is shorter than its declared length.
    """

    code = "TRUNCATED"
    retryable = True


class ContentMismatch(SourceError):
    """
    The bytes differ from their descriptor, and are discarded.
    """

    code = "CONTENT_MISMATCH"


class DigestMismatch(ContentMismatch):
    """
    The bytes have a different digest.
    """

    code = "DIGEST_MISMATCH"


class SizeMismatch(ContentMismatch):
    """
    The number of bytes differs from the descriptor's.
    """

    code = "SIZE_MISMATCH"


# --------------------------------------------------------------- bad images


class BadImage(XferdError):
    """
    The image is invalid; neither another registry nor a retry helps.
    """

    code = "IMAGE_INVALID"


class UnsupportedImage(BadImage):
    """
    xferd does not unpack this kind of image.
    """

    code = "UNSUPPORTED"


class NoSuchPlatform(BadImage):
    """
    The image has no variant for the requested platform.
    """

    code = "PLATFORM_UNKNOWN"


class BadDocument(BadImage):
    """
    A manifest, index or config violates its specification.
    """

    code = "MANIFEST_INVALID"


class BadArchive(BadImage):
    """
    The file is not an archive of images, or is truncated or inconsistent.
    """

    code = "ARCHIVE_INVALID"


class BadLayer(BadImage):
    """
    The layer is not a tar, leads out of its tree, is inconsistent or exceeds a
    limit.
    """

    code = "LAYER_INVALID"


class DiffIDMismatch(BadImage):
    """
    The diff ID of an unpacked layer differs from the config's.
    """

    code = "DIFFID_MISMATCH"


# --------------------------------------------------------------- the machine


class StoreError(XferdError):
    """
    An operation on the data directory fails.
    """

    code = "STORE_FAILED"


class DiskFull(StoreError):
    """
    The disk is full.

    @ivar need: the free bytes that another attempt requires, 0 if unknown.
    """

    code = "DISK_FULL"
    need = 0


class StoreDamaged(StoreError):
    """
    A verification found damage that it could not repair.
    """

    code = "STORE_DAMAGED"


class StoreLocked(StoreError):
    """
    Another daemon uses the data directory.
    """

    code = "STORE_LOCKED"


class WorkerLost(XferdError):
    """
    An unpacking process ended unexpectedly, for example out of memory.
    """

    code = "WORKER_LOST"
    retryable = True


class EngineFailed(XferdError):
    """
    A container engine cannot be reached by its API, or refuses a request.
    """

    code = "ENGINE_FAILED"


class CoordinationUnavailable(XferdError):
    """
    The nodes of the fleet cannot coordinate now.  Each continues alone.
    """

    code = "FLEET_UNAVAILABLE"
    retryable = True


class Interrupted(XferdError):
    """
    The daemon stopped before the job was done.  Downloaded bytes are kept.
    """

    code = "INTERRUPTED"


class Draining(XferdError):
    """
    The daemon is being drained before maintenance, and starts no new work.

    @cvar retry_after: the seconds after which a client may ask again.
    """

    code = "DRAINING"
    retryable = True
    retry_after: ClassVar[float] = 30.0


class ConfigError(XferdError):
    """
    An option or a configuration file is invalid.
    """

    code = "CONFIG_INVALID"
