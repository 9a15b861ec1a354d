# -*- test-case-name: tests.v2.test_uploads -*-
"""
Pushing blobs (OCI distribution-spec v1.1, "Pushing blobs"): whole, in chunks, as a
stream, or by a mount from another repository.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from xferd.errors import BadDigest, BadInput, DiskFull, WrongOffset, XferdError
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.media_types import OCTET_STREAM
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.realms import PUBLIC
from xferd.v2.names import Target
from xferd.v2.request import query
from xferd.web.request import header, noted, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.web.server import Request

    from xferd.interfaces.incoming import IIncomingBlob
    from xferd.interfaces.store import IFreeSpace, IStore
    from xferd.v2.rights.rights import Rights
    from xferd.web.site import BoundedChannel

_RANGE: Final = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?")
_ALGORITHMS: Final = ("sha256", "sha512")


class Upload:
    """
    Receives the body of one request of an upload.

    @ivar target: the repository.
    @ivar session: the upload session; L{None} after a mount.
    @ivar digest: the digest that the request names, or L{None}.
    """

    def __init__(
        self,
        target: Target,
        session: IIncomingBlob | None,
        digest: Digest | None,
        free_space: IFreeSpace,
        end: int | None = None,
    ) -> None:
        """
        @param end: the exclusive offset at which the body has to end, if the request
            names it.
        """
        self.target = target
        self.session = session
        self.digest = digest
        self._free_space = free_space
        self._end = end

    def write(self, data: bytes) -> None:
        """
        Append some bytes.

        @raise BadInput: they are more than the request announced.
        @raise StoreError: the disk refuses.
        """
        if self.session is None:
            return  # A mounted blob needs no bytes.
        if self._end is not None and self.session.offset + len(data) > self._end:
            raise BadInput(f"the chunk continues after byte {self._end - 1}, where its Content-Range ends")
        try:
            self.session.write(data)
        except DiskFull:
            self._free_space.ran_out()
            raise

    def release(self) -> None:
        """
        Release the session.  Idempotent.
        """
        if self.session is not None:
            self.session.release()

    def check_end(self) -> None:
        """
        Check that the chunk was whole.

        @raise BadInput: its C{Content-Range} announced more.
        """
        if self._end is not None and self.session is not None and self.session.offset != self._end:
            raise BadInput(f"the chunk ended before byte {self._end - 1}, where its Content-Range ends")


class Uploads:
    """
    The uploads of all clients.
    """

    def __init__(self, store: IStore, find: Callable[[str], Target], rights: Rights) -> None:
        """
        @param find: finds the repository of a name.
        """
        self._store = store
        self._find = find
        self._rights = rights

    async def begin(self, request: Request, target: Target) -> Upload:
        """
        Begin an upload, or mount a blob (end-4a, end-4b, end-4c, end-11).  The
        client's right to push has been checked.

        @raise BadDigest: a digest in the query is malformed.
        @raise TooManyUploads: too many are unfinished.
        @raise StoreError: the disk refuses.
        """
        digest = _digest(request, "digest")
        mount = _digest(request, "mount")
        if mount is not None and await self._mount(request, target, mount):
            return Upload(target, None, mount, self._store.free_space)
        algorithm = query(request, "digest-algorithm") or "sha256"
        if algorithm not in _ALGORITHMS:
            raise BadInput(f"xferd verifies sha256 and sha512, not {quoted(algorithm)}")
        self._check_space(request)
        session = await self._store.incoming.begin(
            target.repository,
            _owner(request),
            algorithm if digest is None else digest.algorithm,
            brief=digest is not None,
        )
        return Upload(target, session, digest, self._store.free_space)

    async def resume(self, request: Request, target: Target, name: str) -> Upload:
        """
        Continue an upload (end-5, end-6).

        @param name: the identity of its session.
        @raise UploadUnknown: there is no such upload.
        @raise UploadBusy: another request continues it.
        @raise WrongOffset: the chunk is not the next one (416); the answer has the
            offset.
        @raise StoreError: the disk refuses.
        """
        digest = _digest(request, "digest")
        if digest is None and request.method == b"PUT":
            raise BadInput("the request that ends an upload has the parameter 'digest'")
        self._check_space(request)
        session = await self._store.incoming.open(target.repository, name)
        try:
            end = self._check_range(request, session)
        except BaseException:
            self.locate(request, target, session.id, session.offset)
            session.release()
            raise
        return Upload(target, session, digest, self._store.free_space, end)

    async def finish(self, upload: Upload) -> Digest:
        """
        End an upload with its last byte.

        @return: the blob's digest.  The repository has it, durably.
        @raise DigestMismatch: the bytes have another digest; the session has ended.
        @raise StoreError: the disk refuses.
        """
        session, digest = upload.session, upload.digest
        assert digest is not None
        if session is not None:
            upload.check_end()
            release = self._store.gc.lease()
            try:
                size = await session.commit(digest)
                blob = Descriptor(OCTET_STREAM, digest, size)
                await self._store.catalog.put_blob(upload.target.repository, blob)
            finally:
                release()
        return digest

    async def cancel(self, target: Target, name: str) -> None:
        """
        Cancel an upload (end-14).

        @raise UploadUnknown: there is no such upload.
        @raise UploadBusy: a request continues it.
        """
        session = await self._store.incoming.open(target.repository, name)
        try:
            await session.remove()
        finally:
            session.release()

    def status(self, request: Request, target: Target, name: str) -> None:
        """
        Set the headers that describe an upload (end-13).

        @raise UploadUnknown: there is no such upload.
        """
        self.locate(request, target, name, self._store.incoming.offset(target.repository, name))

    def locate(self, request: Request, target: Target, name: str, offset: int) -> None:
        """
        Set the headers of an upload that continues.

        The URL is relative: a proxy may have another host, scheme or port.
        """
        path = f"/v2/{target.repository.path}/blobs/uploads/{name}"
        request.setHeader(b"location", path.encode("ascii"))
        request.setHeader(b"range", b"0-%d" % max(0, offset - 1))
        request.setHeader(b"docker-upload-uuid", name.encode("ascii"))

    async def _mount(self, request: Request, target: Target, digest: Digest) -> bool:
        """
        Mount a blob from another repository, which the request names or not
        ("Mounting a blob from another repository").

        @return: whether the repository has it now.
        """
        catalog, blobs, origin = self._store.catalog, self._store.blobs, query(request, "from")
        release = self._store.gc.lease()
        try:
            holders = self._holders(digest, origin)
            size = blobs.size(digest) if await self._rights.readable(request, holders) else None
            if size is None:
                return False
            await catalog.put_blob(target.repository, Descriptor(OCTET_STREAM, digest, size))
        finally:
            release()
        return True

    def _holders(self, digest: Digest, origin: str | None) -> list[Repository]:
        """
        The repositories to mount a blob from.
        """
        holders = self._store.catalog.holders(digest)
        if origin is None:
            return [each for each in holders if each.host == LOCAL_HOST]
        try:
            named = self._find(origin).repository
        except XferdError:
            return []
        # What came with credentials is not the named upstream's to give.
        public = named.host == LOCAL_HOST or PUBLIC in self._store.catalog.origins(digest)
        return [named] if named in holders and public else []

    def _check_space(self, request: Request) -> None:
        """
        Refuse a body that is larger than the free space, before it is read.

        @raise DiskFull: it is.
        """
        announced = header(request, b"content-length") or "0"
        try:
            free = self._store.free_space.free()
        except OSError:
            return  # The write will show it.
        if announced.isdecimal() and int(announced) > free:
            raise DiskFull(
                f"the disk of {self._store.path} has {free} free bytes, and {announced} are to come"
            )

    def _check_range(self, request: Request, session: IIncomingBlob) -> int | None:
        """
        Check the C{Content-Range} of a chunk.

        @return: the exclusive offset at which it ends, if it has one.
        """
        text = header(request, b"content-range")
        if text is None:
            return None
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            raise BadInput(f"the Content-Range of a chunk is FIRST-LAST, not {quoted(text)}")
        first, end = int(match[1]), int(match[2]) + 1
        if first != session.offset:
            raise WrongOffset(
                f"the upload has {session.offset} bytes: the next chunk begins there, not at byte {first}",
                session.offset,
            )
        length = header(request, b"content-length")
        if length is not None and length.isdecimal() and int(length) != end - first:
            raise BadInput(f"the chunk has {length} bytes, and its Content-Range {text} has {end - first}")
        return end


def _owner(request: Request) -> str:
    """
    The owner of an upload, for the limit on unfinished ones: the user whose password was
    checked, else the client.  Behind a proxy, the clients have one address.
    """
    user = noted(request).get("account")
    client = cast("BoundedChannel", request.channel).client.name
    return f"{user} of the registry" if user else client


def _digest(request: Request, name: str) -> Digest | None:
    """
    A digest in the query.
    """
    text = query(request, name)
    if text is None:
        return None
    if not text:
        raise BadDigest(text)
    return Digest.parse(text)
