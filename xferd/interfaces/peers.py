# -*- test-case-name: tests.test_interfaces -*-
"""
Bytes between the nodes of a fleet: peers as sources of downloads, and the blobs that
a node sends to its peers.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.errors import SourceError
from xferd.interfaces.fleet import Peer
from xferd.interfaces.mirror import IFileReader
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.names import Digest
from xferd.oci import Descriptor


class IPeerBody(IBlobBody):
    """
    The body of a peer's answer to a request for a blob.
    """

    origin: str = Attribute(
        "Where the peer has the bytes from, see ICatalog.origins: of several origins the one that the "
        "client of this download may have; empty if the peer does not know it."
    )


class IPeerSource(IBlobSource):
    """
    A peer, as a source of one blob.  Its bytes count for no registry.

    C{confirm} asks the registry, never the peer: a peer has no say in what a
    client may have.
    """

    registry: IBlobSource = Attribute("The registry's repository, in whose place the peer sends the bytes.")


class IFleetDownload(Interface):
    """
    One download of a blob that the nodes of a fleet share: which peer to ask,
    and when to ask the registry.

    Life cycle: made; any number of calls, one at a time; C{end}ed.
    """

    patience: float = Attribute(
        "Seconds after which the peer of the present request did not deliver; no longer than 10 s from the "
        "last byte of a peer on."
    )

    def peer(registry: IBlobSource) -> Deferred[IPeerSource | None]:
        """
        Find the next peer to ask.

        @param registry: the registry's repository.
        @return: fires with a peer that has the blob or fetches it, or with L{None}
            if there is none, no peer delivers, or the fleet cannot be asked: then
            it is the registry's turn.  Never fails.
        """

    def failed(source: IPeerSource, error: SourceError) -> bool:
        """
        Report that an attempt with a peer failed.  The peer is not asked again for a
        while.

        @return: whether it was a peer that failed, and not the registry, which had to
            confirm something.
        """

    def claim(registry: IBlobSource, here: int) -> Deferred[bool]:
        """
        Claim the blob, just before the registry is asked for it.

        @param here: the bytes of it that are here.
        @return: fires with whether to ask the registry.  Otherwise another node
            fetches the blob, and C{peer} finds it.  Never fails.
        """

    withdrawn: Callable[[int], object] = Attribute(
        "Set by the download: called when another node has taken the claim over, with the offset from which "
        "on that node fetches the blob."
    )

    def keep(registry: IBlobSource) -> Deferred[bool]:
        """
        Claim the blob while the registry sends it, if it is not claimed because the
        coordination did not answer.

        @return: fires with whether to continue.  Otherwise another node fetches the blob,
            as for C{claim}.  Never fails.
        """

    def end(whole: bool) -> None:
        """
        Release the claim.  Idempotent.

        @param whole: whether the blob is in the store.  Then it is announced.
        """


class IFleetDownloads(Interface):
    """
    The downloads that the nodes of a fleet share.
    """

    def begin(blob: Descriptor) -> IFleetDownload | None:
        """
        Begin the download of a blob that is not in the store.

        @return: L{None} if the blob is too small to be shared.
        """


class IHeldBlob(IFileReader):
    """
    A blob that is in the store, or arrives, for a peer.

    Of a blob that arrives, all bytes can be read as they come: a peer verifies the
    digest itself.  C{read} and C{part} fail with L{Interrupted
    <xferd.errors.Interrupted>} when its download ends without it.
    """

    growing: bool = Attribute("Whether the blob was still arriving when it was opened.")
    here: int = Attribute("The bytes from the blob's start on that can be read now.")
    origins: Set[str] = Attribute(
        "Where the bytes came from, see ICatalog.origins; each of these has sent all of them.  It is empty "
        "if that is not known.  Where it changes while the blob arrives, reads fail."
    )


class IHeldBlobs(Interface):
    """
    The blobs that a node can send to its peers.
    """

    def open(digest: Digest) -> IHeldBlob | None:
        """
        Open a blob that is in the store, or that a running download fetches.  No
        download begins, and none continues because of this.  Until it is closed, the
        store keeps the blob.

        @return: L{None} if there is no such blob.
        """


@frozen
class PeerRequest:
    """
    A request of a peer for a blob.

    @ivar method: C{GET} or C{HEAD}.
    @ivar path: its path, as it was sent.
    @ivar authorization: its C{Authorization}, or the empty string.
    @ivar digest: the blob.
    @ivar start: the offset of the first byte that it wants.
    @ivar stop: the exclusive offset of the last one; the blob's end by default.
    @ivar partial: whether it has a C{Range}.
    @ivar avoided: the names of peers to which it is not to be sent on.
    @ivar certificate: the certificate that the peer has shown, in DER, or L{None}.
    @ivar size: the blob's size in bytes, of a peer that the coordination does not answer:
        it asks which node has the blob.
    """

    method: str
    path: str
    authorization: str = field(repr=False)
    digest: Digest
    start: int = 0
    stop: int | None = None
    partial: bool = False
    avoided: tuple[str, ...] = ()
    certificate: bytes | None = field(default=None, repr=False)
    size: int | None = None


@frozen
class PeerAnswer:
    """
    How to answer a peer.

    @ivar status: 200 or 206 to send bytes, 307 to send the peer on to another one, or
        the status of a refusal.
    @ivar headers: the headers of the answer, by name.
    @ivar reason: why it is refused, for people.
    @ivar blob: the blob to send; the caller closes it.
    @ivar start: the offset of the first byte to send.
    @ivar stop: the exclusive offset of the last one.
    @ivar peer: the peer that asks, if it has proved to be one.
    @ivar frame: makes what is sent in the place of some bytes at an offset, at most 128 KiB;
        L{None} if bytes are sent as they are.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    blob: IHeldBlob | None = None
    start: int = 0
    stop: int = 0
    peer: Peer | None = None
    frame: Callable[[int, bytes], bytes] | None = None


class IPeerSending(Interface):
    """
    A blob that is being sent to a peer.
    """

    window: int = Attribute(
        "The bytes to send between two calls of C{sent}, at most.  Where the rate is limited they are few, "
        "so that each peer gets some every second: none of them waits for long at a silent node."
    )

    def sent(size: int) -> Deferred[None] | None:
        """
        Count bytes that the peer has taken.

        @return: fires when more may be sent; L{None} if that is now.
        """

    def end() -> None:
        """
        The answer is over.  Idempotent.
        """


class IPeerDoor(Interface):
    """
    Decides about the requests of peers.
    """

    def answer(request: PeerRequest) -> PeerAnswer:
        """
        Decide about a request.
        """

    def guide(request: PeerRequest) -> Deferred[PeerAnswer]:
        """
        The same for a peer that the coordination does not answer: if the blob is not
        here, the peer is sent on to a node that has it or fetches it.  The answer 404
        means that the peer is the one to fetch it.
        """

    def admit(method: str, path: str, authorization: str, certificate: bytes | None = None) -> PeerAnswer:
        """
        Check the proof of a request that is not for a blob.

        @param certificate: see L{PeerRequest}.
        @return: a refusal with the status 401, or C{peer} with the status 200.
        """

    def fetching(digest: Digest, peer: Peer) -> None:
        """
        A peer fetches a blob: others may ask this node for it when the coordination does
        not answer them.
        """

    def taken(digest: Digest, offset: int) -> None:
        """
        A peer has taken a claim over from this node.

        @param offset: from where on the peer fetches the blob.
        """

    def prefetch(reference: str, platform: str | None, peer: Peer) -> str:
        """
        Begin to prefetch an image for a peer, with the means of this node.

        @return: the ID of the job.
        @raise XferdError: as for L{IJobs.prefetch<xferd.interfaces.jobs.IJobs.prefetch>}.
        """

    def sending(digest: Digest, peer: Peer, start: int) -> IPeerSending:
        """
        Report that a blob is being sent to a peer.

        @param start: the offset of the first byte.
        """


@frozen
class FleetFigures:
    """
    Counters of a node, since the start of the daemon.

    @ivar received: bytes that peers sent.
    @ivar sent: bytes that peers got.
    @ivar takeovers: claims that were taken over from owners that did not deliver.
    @ivar distrusted: the peers that sent wrong bytes and are left out, by name.
    """

    received: int = 0
    sent: int = 0
    takeovers: int = 0
    distrusted: tuple[str, ...] = field(default=())
