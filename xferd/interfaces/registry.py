# -*- test-case-name: tests.test_interfaces -*-
"""
The registry client, as the jobs use it: registries, repositories, blobs and credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.credentials import Credentials
from xferd.interfaces.transfer import ISource
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document


class IBlobBody(Interface):
    """
    The body of one answer to a GET of a blob.

    Life cycle: opened (the headers have arrived, the transport is paused), then
    either C{deliver}ed once or C{abandon}ed.  Until then it holds its
    connection.
    """

    start: int = Attribute("The offset in the blob of the first byte to come: 0 if the server ignored Range.")
    total: int | None = Attribute("The blob's size in bytes by the response, or None if it does not have it.")

    def deliver(sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        """
        Pass each piece, of 1 byte to some 64 KiB, to C{sink} as it arrives.

        Where C{sink} returns a Deferred, nothing more is read until it fires;
        bytes in flight still arrive.  Time spent waiting here does not count
        towards the silence timeout.  An exception from C{sink} ends the body and
        fails the Deferred with it.  Cancelling drops the connection at once, and
        cancels what C{sink} returned.

        @return: fires when the last byte was passed.
        @raise ConnectionFailed: the connection broke.
        @raise Truncated: fewer bytes came than the headers promised.
        @raise TimedOut: no byte arrived for too long, or fewer bytes a second
            than the floor.
        """

    def abandon() -> None:
        """
        Drop the body and its connection.  Idempotent.
        """


class IBlobSource(ISource):
    """
    A source of blobs: a repository with one client's credentials, or an archive
    that a client sends.
    """

    origin: str = Attribute(
        "Under which name the catalog records that a blob came from here, see ICatalog.origins; "
        "empty for a source whose blobs are not recorded."
    )

    def open(digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:
        """
        Request a blob from byte C{offset} on.

        The body may start at 0 nevertheless: see L{IBlobBody.start}.  Then it
        may also continue past C{end}.

        @param end: the exclusive offset at which the body is to end; the blob's
            end by default.
        @raise Denied: the credentials do not suffice, after one refresh of the
            token.
        @raise BlobUnknown: the repository has no such blob.
        @raise TooManyRequests: with C{retry_after}, where the registry names it.
        @raise RegistryUnavailable: 5xx.
        @raise RegistryError: any other status, a 206 for another range than
            requested, or too many redirects.
        @raise SizeMismatch: the offset lies past the blob's end (416).
        @raise ConnectionFailed: no connection.
        @raise TimedOut: connect, TLS or headers took too long.
        """

    def confirm(digest: Digest) -> Deferred[int | None]:
        """
        Check with the registry itself, not with a mirror, that the client may
        have a blob, without fetching it.

        @return: fires with the blob's size in bytes, or with L{None} if the
            registry does not send it.
        @raise Denied: the credentials do not suffice.
        @raise BlobUnknown: the repository has no such blob.
        @raise SourceError: as for C{open}.
        """

    def distrust(digest: Digest) -> None:
        """
        Report that the bytes that came for C{digest} were wrong.  From now on
        they come from the registry itself, not from a mirror.
        """


class IContent(Interface):
    """
    The bytes of a blob, to be sent.  They may still be arriving.

    They are read piece by piece, one read at a time, and again from an
    earlier offset where a registry has lost some.
    """

    size: int = Attribute("The blob's size in bytes.")

    def ready(offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        Wait until a request that sends bytes from C{offset} on may begin.  A
        request that waits for its bytes would hold a connection and a slot.

        @param size: the number of bytes that the request would send.
        @param least: the least number that it must send, unless the blob ends
            before.
        @return: fires with the number of bytes that can be read without waiting:
            C{size}, or the rest of the blob, or at least C{least} where more
            arrive slowly.  Cancelling ends the wait.
        @raise Exception: as for C{read}; or no bytes will arrive soon, and the
            attempt is to end here.
        """

    def read(offset: int, most: int) -> Deferred[bytes]:
        """
        Read from C{offset} on: at least one byte and at most C{most}, as soon as
        there are some; at the end, the empty string.  Cancelling ends this wait
        alone.

        @raise XferdError: the bytes will not arrive, or the disk refuses.
        """


@frozen
class UploadSession:
    """
    The state by which an upload can be continued.

    @ivar location: the session's URL.  It may be signed, so it is not logged.
    @ivar offset: the bytes that the registry has confirmed.
    @ivar used: when it was last used, in seconds since the epoch.
    @ivar isolated: whether it belongs to one account alone, because clients
        share nothing.
    """

    location: str = field(repr=False)
    offset: int
    used: float = field(default=0.0, eq=False)
    isolated: bool = field(default=False, eq=False)


@frozen
class Pushed:
    """
    The result of a push of a blob.

    @ivar how: C{exists}, C{mounted} or C{uploaded}.
    @ivar source: the repository that it was mounted from, where one is known.
    """

    how: str
    source: Repository | None = None


class IKeychain(Interface):
    """
    Credentials for registries: those of the daemon's user, or of one client.
    """

    identity: Hashable = Attribute(
        "Equal for keychains with equal credentials.  Tokens and sources are kept apart by it."
    )
    account: Hashable = Attribute("The identity without secrets: see L{ISource.account}.  It may be stored.")
    where: str = Attribute("The place of the credentials, as errors name it; may be empty.")

    def lookup(host: str, path: str) -> Deferred[Credentials | None]:
        """
        Look up the credentials for a registry.

        @param host: as people write it, C{docker.io}.
        @param path: the repository, or the empty string for the registry.
        @return: fires with the credentials, or with L{None}.
        @raise CredentialsUnavailable: the helper that has them fails.
        """

    def forget(host: str) -> None:
        """
        Drop what L{lookup} returned: the registry did not accept it.
        """


class IRepository(IBlobSource):
    """
    One repository of one registry, with the credentials of one client.
    """

    name: Repository = Attribute("The repository's name.")

    def manifest(wanted: str) -> Deferred[Document]:
        """
        Fetch a manifest or an index.

        @param wanted: a tag or a digest.  The bytes are checked against the
            digest, and against C{Docker-Content-Digest} in either case.
        @raise ManifestUnknown: the repository has no such manifest.
        @raise UnsupportedImage: there is only a Docker schema 1 manifest.
        @raise SourceError: as for L{IBlobSource.open}.
        @raise BadDocument: it is larger than L{xferd.oci.MAX_DOCUMENT}.
        """

    def resolve(wanted: str, *, confirm: bool = False) -> Deferred[Digest]:
        """
        Find the digest of a manifest by HEAD: the rate limits of registries count
        only GET.  Where HEAD does not have it, the manifest is fetched.

        @param wanted: a tag or a digest.
        @param confirm: whether the registry itself has to answer, not a mirror:
            that proves the right of the credentials to read the manifest.
        @raise Denied: the credentials do not suffice.
        @raise ManifestUnknown: the repository has no such manifest.
        @raise SourceError: as for L{IBlobSource.open}.
        """

    def config(descriptor: Descriptor) -> Deferred[bytes]:
        """
        Fetch a config, or another blob of at most L{xferd.oci.MAX_DOCUMENT}
        bytes, whole and checked for size and digest.

        @raise DigestMismatch: the bytes are not the descriptor's.
        @raise SourceError: as for L{IBlobSource.open}.
        """

    def push(
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> Deferred[Pushed]:
        """
        Make one attempt to push a blob into the repository: look whether it
        is there, mount it, or send it (OCI distribution-spec, "Pushing blobs").

        @param candidates: repositories of this registry that may have it,
            the best first.
        @param session: an upload that an earlier attempt began.  Where the
            registry no longer knows it, a new one begins.
        @param remember: called with each session that begins and with each offset
            that the registry confirms, and with L{None} when there is no session
            any more, also where the blob was there or was mounted after all.
        @param report: called with the number of bytes of the blob that the
            registry should have: more with each piece, and fewer after a setback.
        @return: fires when the registry has the blob.  Cancelling stops the
            body at once and leaves the session as it is: see L{abort}.
        @raise SourceError: as for L{IBlobSource.open}; the next attempt may
            continue the session that was remembered last.  Breaks after which the
            registry has more than before them are not raised.
        @raise DigestMismatch: the registry received other bytes.
        @raise ConfigError: no server of the registry may be pushed to.
        @raise XferdError: what C{content} failed with.
        """

    def abort(session: UploadSession) -> Deferred[None]:
        """
        Delete an upload session.  Fires within a bounded time, also where the
        registry does not answer; never fails.
        """

    def put_manifest(wanted: str, document: Document) -> Deferred[None]:
        """
        Put a manifest or an index, byte for byte, under its own media type
        (OCI distribution-spec, "Pushing Manifests").  What it names must be
        there already.

        Where it has a C{subject} and the registry has no referrers API, the
        referrers tag is maintained ("Pushing Manifests with Subject").

        @param wanted: a tag, or the document's digest.
        @raise DigestMismatch: the registry received other bytes.
        @raise BlobUnknown: it misses something that the manifest names.
        @raise BadDocument: its C{subject} is no descriptor.
        @raise ConfigError: no server of the registry may be pushed to.
        @raise SourceError: as for L{IBlobSource.open}.
        """

    def referrers(digest: Digest) -> Deferred[tuple[Descriptor, ...]]:
        """
        List the manifests that have this one as their subject: by the referrers
        API, or the referrers tag where there is none ("Listing Referrers").

        @raise SourceError: as for L{IBlobSource.open}.
        """

    def tags() -> Deferred[tuple[str, ...]]:
        """
        List the tags of the repository, in the registry's order ("Listing Tags").

        @raise ManifestUnknown: there is no such repository.
        @raise SourceError: as for L{IBlobSource.open}.
        """


class IRegistries(Interface):
    """
    All registries.  They share connections, tokens and the learned features of servers.
    """

    def repository(name: Repository) -> IRepository:
        """
        A repository, with the credentials that the daemon's user has for its
        registry, unless there are others: see L{seen_by}.
        """

    def check(host: str) -> Deferred[None]:
        """
        Check that a registry answers, and that it accepts the credentials, if
        it wants any.

        @param host: as people write it, C{docker.io}.
        @raise SourceError: as for L{IBlobSource.open}.
        """

    def seen_by(credentials: Mapping[str, Credentials]) -> IRegistries:
        """
        These registries with one client's credentials.  Tokens are never
        shared between clients.

        @param credentials: by host, as people write it.
        """

    def anonymous() -> IRegistries:
        """
        These registries without any credentials, at mirrors neither.  Tokens and
        sources are kept apart from those of the daemon's user.
        """

    def public_only() -> IRegistries:
        """
        These registries, limited to servers with public addresses: registries,
        their token servers, and wherever they redirect.  For hosts that any client may
        name.  What another server refuses fails with L{Denied
        <xferd.errors.Denied>}, without a connection.
        """

    def close() -> Deferred[None]:
        """
        Close idle connections; fires within a bounded time.
        """
