# -*- test-case-name: tests.fleet.test_door -*-
"""
The answers to requests of peers: which peers get which blobs, how many at a time, and
how fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.expiring import ExpiringDict
from xferd.fleet.followers import Follower, Followers
from xferd.fleet.frames import frame_facts, make_frame
from xferd.fleet.guide import Guide
from xferd.fleet.peer_messages import WHOLE, answer_facts, path_of, redirect_facts
from xferd.fleet.proofs import Proof, Prover, challenge
from xferd.http_urls import split_url
from xferd.interfaces.fleet import ICoordination, Peer
from xferd.interfaces.peers import IHeldBlob, IHeldBlobs, IPeerDoor, IPeerSending, PeerAnswer, PeerRequest
from xferd.mutual_certificate import is_certified
from xferd.names import Digest
from xferd.transfer.bandwidth import Bandwidth

BEHIND: Final = 8 * 1024 * 1024
"""Bytes that a peer may be ahead of this node, and wait for it to catch up."""

SHARES: Final = 64
"""Into how many parts the bytes of one second are divided, where the rate is limited: so
many peers get some in a second.  They leave a node that is silent for five."""

LEAST_WINDOW: Final = 4096
"""Bytes of the smallest of these parts."""

WARN_SECONDS: Final = 60.0
"""Seconds for which a reason to refuse a proof is not logged again: any client of the
registry can send wrong ones."""


@implementer(IPeerDoor)
class PeerDoor:
    """
    Decides about the requests of peers.

    @ivar sent: the bytes that peers got.
    """

    _log = Logger()

    def __init__(
        self,
        prover: Prover,
        held: IHeldBlobs,
        coordination: ICoordination,
        depths: Mapping[Digest, int],
        guide: Guide,
        *,
        clock: IReactorTime,
        prefetch: Callable[[str, str | None, str], str],
        taken: Callable[[Digest, int], None],
        max_followers: int = 8,
        upload_rate: int = 0,
        certified: bool = False,
    ) -> None:
        """
        @param certified: whether a peer needs a certificate for the host of its URL.
        @param prefetch: begins a prefetch, given a reference, a platform and a client's
            name, and returns the ID of the job.
        @param taken: called when a peer has taken a claim over; see L{IPeerDoor.taken}.
        @param coordination: is notified where a blob is gone that was announced.
        @param depths: how many peers the bytes of a running download pass.
        @param max_followers: the peers that get one blob at the same time.
        @param guide: names the nodes that fetch blobs that are not here.
        @param upload_rate: bytes a second for all peers together; 0 for no limit.
        """
        self._prover = prover
        self._held = held
        self._coordination = coordination
        self._depths = depths
        self._certified = certified
        self._guide = guide
        self._prefetch = prefetch
        self._taken = taken
        self._bandwidth = Bandwidth(upload_rate, clock)
        self._clock = clock
        # The reasons to refuse a proof that were logged lately.
        self._warned: ExpiringDict[str, float] = ExpiringDict(clock.seconds, keep=WARN_SECONDS, most=100)
        self.followers = Followers(max_followers, clock.seconds)
        self.sent = 0

    def answer(self, request: PeerRequest) -> PeerAnswer:
        proof = self._check(request.method, request.path, request.authorization, request.certificate)
        if proof is None:
            return self._refusal()
        nonce = ("Xferd-Nonce", self._prover.challenge())
        blob = self._held.open(request.digest)
        if blob is None:
            peer = self._guide.known(request.digest, proof.sender.name, request.avoided)
            if peer is not None:
                return self._redirect(request, proof, nonce, peer)
            # It may have been announced, and removed since.
            self._coordination.withdraw([request.digest])
            return PeerAnswer(404, (nonce,), f"{request.digest} is not here")
        answer = self._send(request, proof, nonce, blob)
        if answer.blob is None:
            blob.close()
        return answer

    def guide(self, request: PeerRequest) -> Deferred[PeerAnswer]:
        return Deferred.fromCoroutine(self._find(request))

    def admit(
        self, method: str, path: str, authorization: str, certificate: bytes | None = None
    ) -> PeerAnswer:
        proof = self._check(method, path, authorization, certificate)
        if proof is None:
            return self._refusal()
        return PeerAnswer(200, (("Xferd-Nonce", self._prover.challenge()),), peer=proof.sender)

    def fetching(self, digest: Digest, peer: Peer) -> None:
        self._guide.note(digest, peer)

    def taken(self, digest: Digest, offset: int) -> None:
        self._taken(digest, offset)

    def prefetch(self, reference: str, platform: str | None, peer: Peer) -> str:
        return self._prefetch(reference, platform, f"peer {peer.name}")

    def sending(self, digest: Digest, peer: Peer, start: int) -> IPeerSending:
        return _Sending(self, digest, self.followers.add(digest, peer, start))

    @property
    def window(self) -> int:
        """
        See L{IPeerSending.window}.
        """
        rate = self._bandwidth.rate
        return max(rate // SHARES, LEAST_WINDOW) if rate else sys.maxsize

    def count(self, size: int) -> Deferred[None] | None:
        """
        Count bytes that a peer got; see L{IPeerSending.sent}.
        """
        self.sent += size
        return self._bandwidth.take(size)

    async def _find(self, request: PeerRequest) -> PeerAnswer:
        """
        See L{IPeerDoor.guide}.
        """
        digest = request.digest
        blob = self._held.open(digest)
        if blob is not None:
            blob.close()
            shunned = self._prover.own.name in request.avoided and not self._coordination.available
            if not (shunned and blob.growing):
                return self.answer(request)
        proof = self._check(request.method, request.path, request.authorization, request.certificate)
        if proof is None:
            return self._refusal()
        nonce = ("Xferd-Nonce", self._prover.challenge())
        peer = await self._guide.find(digest, request.size or 0, proof.sender, request.avoided)
        if peer is None:
            return PeerAnswer(404, (nonce,), f"no node has {digest}, and none fetches it")
        return self._redirect(request, proof, nonce, peer)

    def _check(self, method: str, path: str, authorization: str, certificate: bytes | None) -> Proof | None:
        """
        Check the proof of a request.
        """
        try:
            if self._certified and certificate is None:
                raise ValueError("it did not come to peer_listen, with a certificate")
            proof = self._prover.check(method, path, authorization)
            if certificate is not None and self._certified and not is_certified(certificate, _host_of(proof)):
                raise ValueError("the certificate of its sender is not for the host of the sender's URL")
            return proof
        except ValueError as e:
            why, now = str(e), self._clock.seconds()
            if authorization and (self._warned.get(why) or now) <= now:
                self._warned[why] = now + WARN_SECONDS
                self._log.warn("a request proves nothing: {why}", why=why)
            return None

    def _refusal(self) -> PeerAnswer:
        headers = (("WWW-Authenticate", challenge(self._prover.challenge())),)
        return PeerAnswer(401, headers, "only nodes of this fleet get blobs here")

    def _send(
        self, request: PeerRequest, proof: Proof, nonce: tuple[str, str], blob: IHeldBlob
    ) -> PeerAnswer:
        """
        Send a blob, or the peer to another one.
        """
        digest, start = request.digest, request.start
        stop = blob.size if request.stop is None else min(request.stop, blob.size)
        if start >= stop:
            headers = (nonce, ("Content-Range", f"bytes */{blob.size}"))
            return PeerAnswer(416, headers, f"{digest} has {blob.size} bytes")
        if start > blob.here + BEHIND:
            return PeerAnswer(503, (nonce,), f"only {blob.here} bytes of it are here")
        if self.followers.is_full(digest, blob.here):
            return self._send_on(request, proof, nonce, blob.here)
        depth = str(self._depths.get(digest, 0)) if blob.growing else WHOLE
        origins = sorted(blob.origins)
        ranges = [f"bytes {start}-{stop - 1}/{blob.size}"] if request.partial else []
        status = 206 if request.partial else 200
        tag = self._prover.prove_answer(proof, answer_facts(digest, status, ranges, depth, origins))
        described = (
            nonce,
            ("Xferd-Proof", tag),
            ("Xferd-Depth", depth),
            *(("Xferd-Origin", origin) for origin in origins),
            *(("Content-Range", each) for each in ranges),
        )

        def frame(offset: int, data: bytes) -> bytes:
            return make_frame(data, self._prover.prove_answer(proof, frame_facts(digest, offset, data)))

        return PeerAnswer(
            status,
            described,
            blob=blob,
            start=start,
            stop=stop,
            peer=proof.sender,
            # A whole blob has passed its digest here.
            frame=frame if blob.growing else None,
        )

    def _send_on(self, request: PeerRequest, proof: Proof, nonce: tuple[str, str], here: int) -> PeerAnswer:
        """
        Send a peer on to one that follows.
        """
        digest = request.digest
        peer = self.followers.choose(digest, here, proof.sender.name, request.start, request.avoided)
        if peer is None:
            return PeerAnswer(503, (nonce,), "too many peers get it at this moment")
        return self._redirect(request, proof, nonce, peer)

    def _redirect(self, request: PeerRequest, proof: Proof, nonce: tuple[str, str], peer: Peer) -> PeerAnswer:
        digest = request.digest
        location = peer.url.rstrip("/") + path_of(digest)
        tag = self._prover.prove_answer(proof, redirect_facts(digest, location, peer.name))
        headers = (nonce, ("Location", location), ("Xferd-Node", peer.name), ("Xferd-Proof", tag))
        return PeerAnswer(307, headers, f"ask {peer.name}")


def _host_of(proof: Proof) -> str:
    """
    The host in the URL of a peer; empty if it has none.
    """
    try:
        return split_url(proof.sender.url).hostname or ""
    except ValueError:
        return ""


@implementer(IPeerSending)
class _Sending:
    """
    An answer that is being sent.
    """

    def __init__(self, door: PeerDoor, digest: Digest, follower: Follower) -> None:
        self._door = door
        self._digest = digest
        self._follower = follower
        self.window = door.window

    def sent(self, size: int) -> Deferred[None] | None:
        self._door.followers.moved(self._follower, size)
        return self._door.count(size)

    def end(self) -> None:
        self._door.followers.remove(self._digest, self._follower)
