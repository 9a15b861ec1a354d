# -*- test-case-name: tests.fleet.test_peer_client -*-
"""
Requests for blobs to the other nodes of a fleet.

An answer is used only if it proves that its sender has the secret of the fleet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Final
from urllib.parse import urlencode

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.iweb import IResponse

from xferd.errors import BlobUnknown, RegistryError, RegistryUnavailable, SourceError, TimedOut
from xferd.fleet.frames import FrameReader, frame_facts
from xferd.fleet.peer_body import PeerBody
from xferd.fleet.peer_messages import PREFETCH, WHOLE, answer_facts, host_of, path_of, redirect_facts
from xferd.fleet.peer_requests import NotAPeer, PeerRequests
from xferd.fleet.proofs import Proof
from xferd.interfaces.fleet import Peer, is_node_name
from xferd.names import Digest
from xferd.realms import PUBLIC
from xferd.registry.transport.errors import header, header_values
from xferd.registry.transport.ranges import check_rest, parse_content_range, range_from
from xferd.registry.transport.response_body import BlobBody, discard, length_of
from xferd.registry.transport.timeouts import within

DEEPER: Final = 2.0
"""Seconds of silence more for each peer on the way: a node that loses the peer that
it follows needs time to find another one, and those that follow it must not leave."""

MOST_DEPTH: Final = 8
"""The depth of a peer that counts, at most."""

HOPS: Final = 4
"""The number of peers that one request may be sent on to."""

MOST_AVOIDED: Final = 16
"""The peers that are named in a request as unwanted, at most."""


@frozen
class _Want:
    """
    What is requested: see L{PeerClient.open}.
    """

    digest: Digest
    offset: int
    end: int | None
    origin: str
    avoided: str
    size: int | None
    moved: Callable[[int], None]


class PeerBusy(RegistryUnavailable):
    """
    A peer sends to as many others as it may, or has not the wanted bytes yet.
    """


class PeerClient:
    """
    Asks peers for blobs, and to prefetch images.

    @ivar usable: see L{PeerRequests.usable<xferd.fleet.peer_requests.PeerRequests.usable>}.
    @ivar close: see L{PeerRequests.close<xferd.fleet.peer_requests.PeerRequests.close>}.
    @ivar use_certificates: see L{PeerRequests.use_certificates
        <xferd.fleet.peer_requests.PeerRequests.use_certificates>}.
    """

    _log = Logger()

    def __init__(self, requests: PeerRequests) -> None:
        self._requests = requests
        self.use_certificates = requests.use_certificates
        self.usable = requests.usable
        self.close = requests.close

    def open(
        self,
        peer: Peer,
        digest: Digest,
        offset: int,
        end: int | None,
        *,
        origin: str,
        avoided: Collection[str],
        moved: Callable[[int], None],
        size: int | None = None,
    ) -> Deferred[PeerBody]:
        """
        Request a blob from byte C{offset} on.

        @param end: the exclusive offset of the last byte; the blob's end by default.
        @param origin: the origin of the registry in whose place the peer is asked.
        @param avoided: the names of the peers to which it should not send us on.
        @param moved: called with the size of each piece that arrives.
        @param size: the blob's size in bytes, if the peer is to look up which node has
            it, because the coordination does not answer this node.
        @raise PeerBusy: it may send it later.
        @raise BlobUnknown: it does not have it.
        @raise NotAPeer: the server is not an xferd with the same secret.
        @raise SourceError: as for L{IBlobSource.open
            <xferd.interfaces.registry.IBlobSource.open>}.
        """
        want = _Want(digest, offset, end, origin, " ".join(sorted(avoided)[:MOST_AVOIDED]), size, moved)
        asked = [peer.name]
        limits = self._requests.timeouts
        seconds = limits.connect + limits.tls + limits.headers

        def late() -> TimedOut:
            text = f"{', '.join(asked)} gave no answer within {seconds:g} s"
            return TimedOut(text, phase="headers", host=host_of(asked[-1]))

        # A peer may want a proof first, or send us on, to one that is slow in turn.
        opening = Deferred.fromCoroutine(self._open(peer, want, asked))
        return within(self._requests.clock, seconds, opening, late, PeerBody.abandon)

    def reaches(self, peer: Peer, digest: Digest) -> Deferred[bool]:
        """
        Ask a peer for a sign of life.

        @param digest: any blob.
        @return: fires with whether an xferd answers at the URL of the peer; never fails.
        """
        return Deferred.fromCoroutine(self._requests.reaches(peer, path_of(digest)))

    def tell_taken(self, peer: Peer, digest: Digest, offset: int) -> Deferred[None]:
        """
        Report to a peer that its claim was taken over.

        @param offset: from where on the blob is fetched here.
        @return: fires when it knows, or does not answer; never fails.
        """
        return Deferred.fromCoroutine(self._tell(peer, f"{path_of(digest)}?offset={offset}"))

    def tell_fetching(self, peer: Peer, digest: Digest) -> Deferred[None]:
        """
        Report to a peer that this node fetches a blob; as L{tell_taken}.
        """
        return Deferred.fromCoroutine(self._tell(peer, path_of(digest)))

    def prefetch(self, peer: Peer, reference: str, platform: str | None) -> Deferred[str]:
        """
        Ask a peer to fetch an image for the clients of its registry.

        @return: fires with the ID of the peer's job.
        @raise NotAPeer: the server is not an xferd with the same secret.
        @raise SourceError: it refuses, or does not answer.
        """
        return Deferred.fromCoroutine(self._prefetch(peer, reference, platform))

    async def _open(self, peer: Peer, want: _Want, asked: list[str]) -> PeerBody:
        """
        See L{open}.

        @param asked: the name of the peer, to which those of others are added.
        """
        while True:
            fields = {"Range": [range_from(want.offset, want.end)]}
            if want.avoided:
                fields["Xferd-Avoid"] = [want.avoided]
            if want.size is not None and len(asked) == 1:
                fields["Xferd-Alone"] = [str(want.size)]
            response, proof = await self._requests.ask(peer, "GET", path_of(want.digest), fields)
            if response.code in (200, 206):
                return self._body(peer, response, proof, want)
            text = await self._requests.excerpt(response)
            if response.code != 307:
                raise self._refusal(peer, want.digest, response.code, text)
            peer = self._next(peer, want.digest, response, proof)
            if peer.name in asked or len(asked) > HOPS:
                raise PeerBusy(f"{', '.join(asked)} are all busy", host=host_of(asked[0]))
            asked.append(peer.name)

    async def _tell(self, peer: Peer, path: str) -> None:
        try:
            response, _ = await self._requests.ask(peer, "POST", path, {})
            await self._requests.excerpt(response)
        except SourceError as e:
            self._log.debug("{peer} does not learn who fetches a blob: {why}", peer=peer.name, why=str(e))

    async def _prefetch(self, peer: Peer, reference: str, platform: str | None) -> str:
        host = host_of(peer.name)
        asked = {"reference": reference} | ({} if platform is None else {"platform": platform})
        response, _ = await self._requests.ask(peer, "POST", f"{PREFETCH}?{urlencode(asked)}", {})
        text = await self._requests.excerpt(response)
        try:
            job = json.loads(text)["job"] if response.code == 202 else None
        except (KeyError, TypeError, ValueError):
            job = None
        if not isinstance(job, str) or not job:
            raise RegistryError(
                f"{peer.name} answers {response.code}: {text}", host=host, status=response.code
            )
        return job

    def _body(self, peer: Peer, response: IResponse, proof: Proof, want: _Want) -> PeerBody:
        """
        Check the head of an answer with bytes.
        """
        digest, offset = want.digest, want.offset
        host = host_of(peer.name)
        length = length_of(response)
        origins = header_values(response.headers, "Xferd-Origin")
        depth = header(response.headers, "Xferd-Depth")
        ranges = header_values(response.headers, "Content-Range")
        tag = header(response.headers, "Xferd-Proof")
        facts = answer_facts(digest, response.code, ranges, depth, origins)
        if not self._requests.prover.check_answer(proof, peer.name, facts, tag):
            discard(response)
            raise NotAPeer(
                f"the answer of {peer.name} at {peer.url} does not come from a node of this fleet", host=host
            )
        try:
            if response.code == 206:
                found = check_rest(ranges, offset, length, want.end)
                total = parse_content_range(ranges[0]).total
                length = found.length
            elif offset:
                raise ValueError("the whole in place of a part")
            else:
                total = length
        except ValueError as e:
            discard(response)
            raise RegistryError(f"{peer.name} sent another range of {digest}: {e}", host=host) from None
        deep = min(int(depth), MOST_DEPTH) if re.fullmatch("[0-9]{1,4}", depth) else 0
        limits = evolve(self._requests.timeouts, silence=self._requests.timeouts.silence + DEEPER * deep)
        # Frames are longer than what is in them.
        frames, promised = None, total
        if depth != WHOLE:
            length = promised = None

            def check(start: int, data: bytes, tag: str) -> bool:
                return self._requests.prover.check_answer(
                    proof, peer.name, frame_facts(digest, start, data), tag
                )

            frames = FrameReader(offset, check, host)
        body = BlobBody(
            response, offset, promised, length=length, host=host, clock=self._requests.clock, timeouts=limits
        )
        return PeerBody(
            body,
            total,
            choose_origin(origins, want.origin),
            peer.name,
            deep + 1,
            depth == WHOLE,
            want.moved,
            frames,
        )

    def _next(self, peer: Peer, digest: Digest, response: IResponse, proof: Proof) -> Peer:
        """
        The peer that a busy one sends us to.
        """
        location, name = header(response.headers, "Location"), header(response.headers, "Xferd-Node")
        facts = redirect_facts(digest, location, name)
        if not self._requests.prover.check_answer(
            proof, peer.name, facts, header(response.headers, "Xferd-Proof")
        ):
            raise NotAPeer(
                f"the redirect of {peer.name} does not come from a node of this fleet",
                host=host_of(peer.name),
            )
        url = location.removesuffix(path_of(digest))
        if url == location or not is_node_name(name):
            raise NotAPeer(f"{peer.name} redirects to a server that is not a node", host=host_of(peer.name))
        return Peer(name, url)

    def _refusal(self, peer: Peer, digest: Digest, status: int, text: str) -> SourceError:
        host = host_of(peer.name)
        if status == 404:
            return BlobUnknown(f"{peer.name} does not have {digest}", host=host, status=status)
        if status == 503:
            return PeerBusy(f"{peer.name} cannot send {digest} now: {text}", host=host, status=status)
        if status >= 500:
            return RegistryUnavailable(f"{peer.name} answers {status}: {text}", host=host, status=status)
        return NotAPeer(f"{peer.name} answers {status} to a request for {digest}", host=host, status=status)


def choose_origin(origins: Sequence[str], own: str) -> str:
    """
    Of several origins the one that helps the client of the registry with the origin
    C{own} most.
    """
    for wanted in (PUBLIC, own):
        if wanted in origins:
            return wanted
    return min(origins, default="")
