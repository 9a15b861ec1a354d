# -*- test-case-name: tests.test_errors -*-
"""
What can go wrong, in one tree::

    XferdError
    ├── BadInput                   the client can mend it: another request
    │   ├── BadReference
    │   ├── BadDigest
    │   ├── BadPlatform
    │   ├── KeyReused              an Idempotency-Key for two requests
    │   ├── TooManyJobs            other jobs have to end first
    │   ├── NotFound               no such job, image, transfer here
    │   └── WrongOffset            a piece of an archive is not the next one
    ├── SourceError                one source failed; another may not
    │   ├── Denied                 401 or 403: credentials, by the client
    │   ├── CredentialsUnavailable a credential helper failed: the operator
    │   ├── ManifestUnknown        404: the name, by the client
    │   ├── BlobUnknown            404: the registry's owner
    │   ├── TooManyRequests        429: time mends it
    │   ├── RegistryError          any other answer that is no success
    │   │   └── RegistryUnavailable    5xx: time mends it
    │   ├── ConnectionFailed       no route, refused, reset, TLS
    │   ├── TimedOut               connect, TLS, headers, silence, too slow
    │   ├── Truncated              fewer bytes than promised
    │   └── ContentMismatch        the bytes are not what their name says
    │       ├── DigestMismatch
    │       └── SizeMismatch
    ├── BadImage                   the image's author can mend it
    │   ├── UnsupportedImage       schema 1, an artifact, an unknown layer type
    │   ├── NoSuchPlatform         the index offers others
    │   ├── BadDocument            a manifest, index or config that breaks the spec
    │   ├── BadArchive             a file that holds no images, or damaged ones
    │   ├── BadLayer               a layer that is no tar, escapes, lies or is a bomb
    │   └── DiffIDMismatch         a layer is not the one its config names
    ├── StoreError                 the operator can mend it
    │   ├── DiskFull
    │   └── StoreLocked            another daemon has the data directory
    ├── WorkerLost                 an unpacking process died
    ├── Interrupted                the daemon stopped
    └── ConfigError                the operator can mend it: a bad option or file

Each class has a stable C{code}, which the HTTP API, xferctl and the status
page show alike, and says whether trying again can help.  Each instance is one
sentence that names the thing and, where there is one, the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from reprlib import Repr
from typing import ClassVar, Final

MAX_MESSAGE: Final = 500
"""Characters of a message at most."""

MAX_QUOTED: Final = 150
"""Characters of a value that a message quotes, at most: enough for a digest."""

_END: Final = 180
"""Characters at the end of a message, with the remedy, that stay when it is cut."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def quoted(value: object) -> str:
    """
    A value that came from outside, as a message quotes it: on one line, and
    cut where it is long.
    """
    shorter = Repr()
    shorter.maxstring = shorter.maxlong = shorter.maxother = MAX_QUOTED
    shorter.maxlevel = 2
    text = shorter.repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 3]}..."


def shown(text: str) -> str:
    """
    Foreign text, fit for a message: printable, and not too long.
    """
    line = "".join(c if c.isprintable() else "?" for c in text)
    return line if len(line) <= 100 else f"{line[:97]}..."


def _cut(text: str) -> str:
    """
    A message without its middle, if it is too long.
    """
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - _END - 5]} ... {text[-_END:]}"


def _escaped(text: str) -> str:
    """
    A message on one line and without control sequences, of at most
    L{MAX_MESSAGE} characters.
    """
    text = _SURROGATE.sub("\ufffd", _cut(text))
    if text.isprintable():
        return text
    return _cut("".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text))


class XferdError(Exception):
    """
    The root of all that xferd raises on purpose.

    A message may quote a registry, a tar or a file name.  Lone surrogates in
    it are replaced by U+FFFD, so that every message can be written as UTF-8;
    other characters that are not printable are escaped.  A message that is
    longer than L{MAX_MESSAGE} loses its middle.

    @cvar code: a stable word for programs, C{[A-Z_]+}.
    @cvar retryable: whether the same call may succeed when it is made again.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, *args: object) -> None:
        super().__init__(*(_escaped(a) if isinstance(a, str) else a for a in args))


def causes(error: BaseException) -> Iterator[BaseException]:
    """
    An error and what it was raised from, outermost first.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def is_retryable(error: BaseException) -> bool:
    """
    Whether trying again can help, seen through causes: a wrapper does not
    make a final error retryable.

    An error that is not ours is a bug or an unknown, and is not tried again.
    """
    ours = [e for e in causes(error) if isinstance(e, XferdError)]
    return bool(ours) and all(e.retryable for e in ours)


# --------------------------------------------------------------- bad input


class BadInput(XferdError):
    """
    The request cannot be served as it stands.
    """

    code = "BAD_INPUT"


class BadReference(BadInput):
    """
    A text that is not the name of an image.
    """

    code = "NAME_INVALID"

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{quoted(text)} is not an image reference: {why}")


class BadDigest(BadInput):
    """
    A text that is not a digest.
    """

    code = "DIGEST_INVALID"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{quoted(text)} is not a digest that xferd can verify: sha256:<64 hex> or sha512:<128 hex>"
        )


class BadPlatform(BadInput):
    """
    A text that is not a platform.
    """

    code = "PLATFORM_INVALID"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{quoted(text)} is not a platform: os/architecture[/variant], for example linux/arm64/v8"
        )


class KeyReused(BadInput):
    """
    An C{Idempotency-Key} that came with another request before.
    """

    code = "IDEMPOTENCY_KEY_REUSED"


class TooManyJobs(BadInput):
    """
    A job beyond those that may be there at one time.
    """

    code = "TOO_MANY_JOBS"
    retryable = True


class NotFound(BadInput):
    """
    xferd itself has no such thing.
    """

    code = "NOT_FOUND"


class WrongOffset(BadInput):
    """
    A piece of an archive that is not the next one, or comes too early.

    @ivar offset: the bytes that were taken so far: where to go on.
    """

    code = "OFFSET_INVALID"

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


# ----------------------------------------------------------- source errors


class SourceError(XferdError):
    """
    One source failed for its own reasons; another source may not.

    @ivar host: the registry's host.
    @ivar status: the HTTP status that told, or L{None}.
    @ivar retry_after: seconds the source asked to be left alone for, or
        L{None}.
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
    The registry wants other credentials, or none will do.
    """

    code = "DENIED"


class CredentialsUnavailable(SourceError):
    """
    There should be credentials, but the helper that keeps them does not give
    them.
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


class TooManyRequests(SourceError):
    """
    The registry's rate limit.
    """

    code = "TOOMANYREQUESTS"
    retryable = True


class RegistryError(SourceError):
    """
    The registry gave an answer that is neither success nor any of the others.
    """

    code = "REGISTRY_ERROR"


class RegistryUnavailable(RegistryError):
    """
    The registry is in trouble of its own (5xx).
    """

    code = "REGISTRY_UNAVAILABLE"
    retryable = True


class ConnectionFailed(SourceError):
    """
    No connection, or it broke.
    """

    code = "CONNECTION_FAILED"
    retryable = True


class TimedOut(SourceError):
    """
    A limit on waiting was reached.

    @ivar phase: C{connect}, C{headers}, C{silence}, C{rate} or C{token}.
    """

    code = "TIMED_OUT"
    retryable = True

    def __init__(self, message: str, *, phase: str, host: str = "") -> None:
        super().__init__(message, host=host)
        self.phase = phase


class Truncated(SourceError):
    """
    The body ended before its promised length.
    """

    code = "TRUNCATED"
    retryable = True


class ContentMismatch(SourceError):
    """
    The bytes are not what their name says.  They were thrown away.
    """

    code = "CONTENT_MISMATCH"


class DigestMismatch(ContentMismatch):
    """
    The bytes have another digest.
    """

    code = "DIGEST_MISMATCH"


class SizeMismatch(ContentMismatch):
    """
    There are more or fewer bytes than the descriptor says.
    """

    code = "SIZE_MISMATCH"


# --------------------------------------------------------------- bad images


class BadImage(XferdError):
    """
    The image itself is at fault; no registry or retry mends it.
    """

    code = "IMAGE_INVALID"


class UnsupportedImage(BadImage):
    """
    A kind of image that xferd does not unpack.
    """

    code = "UNSUPPORTED"


class NoSuchPlatform(BadImage):
    """
    The image is not offered for the wanted platform.
    """

    code = "PLATFORM_UNKNOWN"


class BadDocument(BadImage):
    """
    A manifest, index or config that breaks its specification.
    """

    code = "MANIFEST_INVALID"


class BadArchive(BadImage):
    """
    A file that is no archive of images, breaks off, escapes or lies.
    """

    code = "ARCHIVE_INVALID"


class BadLayer(BadImage):
    """
    A layer that is not a tar, leads out of its tree, lies or is a bomb.
    """

    code = "LAYER_INVALID"


class DiffIDMismatch(BadImage):
    """
    A layer unpacks to something else than the image's config names.
    """

    code = "DIFFID_MISMATCH"


# --------------------------------------------------------------- the machine


class StoreError(XferdError):
    """
    The data directory cannot do what was asked.
    """

    code = "STORE_FAILED"


class DiskFull(StoreError):
    """
    No space is left.

    @ivar need: the bytes that must be free before another attempt is of use,
        as far as that is known.
    """

    code = "DISK_FULL"
    need = 0


class StoreLocked(StoreError):
    """
    Another daemon uses the data directory.
    """

    code = "STORE_LOCKED"


class WorkerLost(XferdError):
    """
    An unpacking process died, for example for want of memory.
    """

    code = "WORKER_LOST"
    retryable = True


class Interrupted(XferdError):
    """
    The daemon stopped before the job was done.  What was fetched is kept.
    """

    code = "INTERRUPTED"


class ConfigError(XferdError):
    """
    An option or a configuration file is wrong.
    """

    code = "CONFIG_INVALID"
