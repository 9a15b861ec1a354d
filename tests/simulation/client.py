"""
The clients of a simulated daemon: they begin jobs, and wait until they are told the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.simulation.daemon import PIECE, archive_of
from tests.simulation.schedules import HOST, OTHER, TARGET
from xferd.credentials import Credentials, Secret
from xferd.errors import NotFound, WrongOffset, XferdError
from xferd.interfaces.job_json import JobDetailsJSON, JobJSON
from xferd.interfaces.jobs import ALWAYS, REJOIN, IArchive, IEventStream
from xferd.interfaces.mirror import IBlobReader
from xferd.jobs.blobs.reader import Restarted
from xferd.jobs.job import ENDED
from xferd.jobs.manager import Jobs
from xferd.names import Digest
from xferd.oci import Descriptor

READER = "reader "
"""The first characters of the names of clients that read without a job."""

PAUSE = 0.1
"""Seconds between two pieces of an archive."""


@define(eq=False)
class Request:
    """
    A client's request, and what the client knows of its job.

    @ivar number: counts the requests of a simulation.
    @ivar kind: C{pull}, C{push}, C{copy}, C{prefetch}, C{verify}, C{import}, or C{fill}: a pull
        of layers without a name, which ends with its daemon.
    @ivar image: the image's name.
    @ivar always: whether its job continues by itself after a restart of the daemon.
    @ivar returns: whether the client comes back after a restart.
    @ivar authenticates: whether it sends credentials.
    @ivar job: the job's ID; L{None} until the daemon has it.
    @ivar answered: whether the client got the response.
    @ivar refused: whether the daemon refused the request.
    @ivar cancelled: whether the client has cancelled the job.
    @ivar cancelled_by: the number of the daemon that responded to that; 0 for none.
    @ivar told_by: the number of the daemon that told the end.
    @ivar told: the states in which the job ended, as the client was told.
    @ivar error: the code of the job's error.
    @ivar message: its message.
    @ivar lost: whether a later daemon did not know the job.
    @ivar whole: whether all of an import's archive was reported to be in the store.
    @ivar stream: its events.
    @ivar daemon: the number of the daemon that the client talks to; 0 for none.
    """

    number: int
    kind: str
    image: str
    client: str
    priority: int
    always: bool
    returns: bool
    authenticates: bool = False
    job: str | None = None
    answered: bool = False
    refused: bool = False
    cancelled: bool = False
    cancelled_by: int = 0
    told_by: int = 0
    told: list[str] = field(factory=list)
    error: str = ""
    message: str = ""
    lost: bool = False
    daemon: int = 0
    whole: bool = False
    stream: IEventStream | None = None

    @property
    def target(self) -> str:
        """
        Where a push or a copy goes.
        """
        return f"{TARGET}/{self.image.partition('/')[2]}"

    @property
    def owner(self) -> str:
        """
        Its user.
        """
        return f"user {self.client}"

    @property
    def credentials(self) -> dict[str, Credentials]:
        """
        Its credentials, by host.
        """
        if not self.authenticates:
            return {}
        return dict.fromkeys((HOST, OTHER, TARGET), Credentials(self.client, Secret("hunter2")))

    @property
    def over(self) -> bool:
        """
        Whether the client waits for nothing more.
        """
        return bool(self.told) or self.refused

    def __str__(self) -> str:
        return f"{self.kind} {self.number} of {self.image} by {self.client}"

    def begin(self, jobs: Jobs, daemon: int) -> None:
        """
        Send the request.

        @param daemon: counts the daemons.
        """
        self.daemon = daemon
        try:
            self.job = self._begin(jobs)["id"]
            if self.kind == "fill":
                return
            jobs.persist(self.job, ALWAYS if self.always else REJOIN, self.owner)
        except XferdError:
            self.refused = True
            return
        # A client that leaves gets the job at once; one that stays follows it.
        recorded = jobs.flushed() if self.always or self.kind == "import" else jobs.kept(self.job)
        _ = recorded.addCallback(self._answer, daemon)
        self.follow(jobs.events(self.job), daemon)
        if self.kind == "import":
            self.send(jobs, self.job, daemon)

    def _begin(self, jobs: Jobs) -> JobDetailsJSON:
        if self.kind == "fill":
            daemon = self.daemon

            def ended(job: JobJSON) -> None:
                if self.daemon == daemon:
                    self._tell(job, daemon)

            return jobs.pull_layers(self.image, self.client, ended, self.credentials)
        if self.kind == "pull":
            return jobs.pull(self.image, None, self.client, self.priority, self.credentials)
        if self.kind == "prefetch":
            return jobs.prefetch(self.image, None, self.client, self.priority)
        if self.kind == "verify":
            return jobs.verify(self.image or None, self.client, self.priority, self.credentials)
        if self.kind == "import":
            size = len(archive_of(self.image))
            return jobs.import_archive(None, None, size, self.client, self.priority)
        if self.kind == "push":
            return jobs.push(self.image, self.target, (), None, self.client, self.priority, self.credentials)
        return jobs.copy(self.image, self.target, None, False, self.client, self.priority, self.credentials)

    def send(self, jobs: Jobs, job_id: str, daemon: int) -> None:
        """
        Send the archive of an import, from the offset that the job has.
        """
        data, clock = archive_of(self.image), jobs._clock

        async def send() -> None:
            while self.daemon == daemon and not self.over:
                stream = jobs.upload_stream(job_id)
                try:
                    if stream.offset >= len(data):
                        await stream.finish(len(data))
                        self.whole = self.daemon == daemon
                        return
                    await stream.put(stream.offset, data[stream.offset : stream.offset + 2 * PIECE])
                except WrongOffset:
                    pass  # The last piece is being read.
                await deferLater(clock, PAUSE)

        _ = Deferred.fromCoroutine(send()).addErrback(
            lambda failure: failure.trap(XferdError, CancelledError)
        )

    def _answer(self, _: None, daemon: int) -> None:
        if self.daemon == daemon:
            self.answered = True

    def cancel(self, jobs: Jobs) -> None:
        """
        Cancel the job, if it is known.
        """
        if self.job is None or self.over:
            return
        try:
            jobs.cancel(self.job)
        except NotFound:
            return
        self.cancelled = True
        daemon = self.daemon

        def answered(_: None) -> None:
            if self.daemon == daemon and not self.told:
                self.cancelled_by = daemon

        _ = jobs.flushed().addCallback(answered)

    def _tell(self, job: Mapping[str, Any], daemon: int) -> None:
        self.told.append(job["state"])
        self.told_by = daemon
        error = job["error"] or {"code": "", "message": ""}
        self.error, self.message = error["code"], error["message"]

    def follow(self, stream: IEventStream, daemon: int) -> None:
        """
        Read a stream of events until it ends or the daemon dies.
        """

        self.stream = stream

        async def read() -> None:
            while events := await stream.get():
                if self.daemon != daemon or self.stream is not stream:
                    return
                for event in events:
                    if event.kind == "job" and event.data["state"] in ENDED:
                        self._tell(event.data, daemon)

        _ = Deferred.fromCoroutine(read()).addErrback(lambda failure: failure.trap(CancelledError))

    def reconnect(self, jobs: Jobs, daemon: int) -> None:
        """
        Lose the connection with the events, and follow the job again from the last one.
        """
        stream, job_id = self.stream, self.job
        if stream is None or job_id is None or self.over or self.daemon != daemon:
            return
        self.stream, position = None, stream.position
        stream.close()

        def followed(stream: IEventStream) -> None:
            if self.daemon == daemon:
                self.follow(stream, daemon)

        _ = jobs.follow(job_id, position).addCallback(followed)

    def come_back(self, jobs: Jobs, daemon: int) -> None:
        """
        Find the job at the next daemon, unless the client waits for nothing more.  Without
        a response to the request, it is sent again if the job is not there.
        """
        self.daemon = daemon
        if self.over or self.job is None:
            return
        if self.kind == "fill":
            self.refused = True
            return
        job_id = self.job
        if self.returns:
            jobs.rejoin(job_id, self.client, self.owner, self.credentials)

        def unknown(error: XferdError) -> None:
            if self.daemon != daemon:
                return
            if self.answered:
                self.lost = True
            else:
                self.cancelled, self.cancelled_by = False, 0
                self.begin(jobs, daemon)

        async def find() -> None:
            try:
                stream = await jobs.follow(job_id)
            except NotFound as e:
                unknown(e)
            else:
                self.follow(stream, daemon)
                if self.kind == "import" and self.returns and not self.whole:
                    self.send(jobs, job_id, daemon)

        _ = Deferred.fromCoroutine(find()).addErrback(lambda failure: failure.trap(CancelledError))


@define(eq=False)
class Reading:
    """
    A client without a job, which reads.

    @ivar over: whether it has ended, with or without an error.
    """

    over: bool = False
    work: Deferred[None] | None = None

    def wrong(self) -> str:
        """
        What is wrong with what it got; empty if nothing is.
        """
        raise NotImplementedError


@define(eq=False)
class BlobReading(Reading):
    """
    A client that reads a blob while it arrives, as one of the registry does.

    @ivar blob: the blob.
    @ivar most: the bytes after which it leaves.
    @ivar data: the bytes that it got.
    """

    blob: Descriptor = field(kw_only=True)
    most: int = field(kw_only=True)
    data: bytes = b""

    def __str__(self) -> str:
        return f"a reader of {self.blob.digest}"

    def begin(self, opening: Deferred[IBlobReader]) -> None:
        """
        Read.
        """

        async def read() -> None:
            reader = None
            try:
                reader = await opening
                while len(self.data) < self.most:
                    self.data += await reader.read(len(self.data), self.most - len(self.data))
            except (XferdError, Restarted, CancelledError):
                pass
            finally:
                self.over = True
                if reader is not None:
                    reader.close()

        self.work = Deferred.fromCoroutine(read())

    def wrong(self) -> str:
        """
        Whether it got other bytes than those of the blob.
        """
        whole = len(self.data) == self.blob.size
        return f"{self} got wrong bytes" if whole and Digest.of(self.data) != self.blob.digest else ""


@define(eq=False)
class Exporting(Reading):
    """
    A client that exports an image.

    @ivar size: the bytes that the archive was announced to have.
    @ivar got: those that came.
    @ivar whole: whether it has ended without an error.
    """

    image: str = field(kw_only=True)
    size: int = 0
    got: int = 0
    whole: bool = False

    def __str__(self) -> str:
        return f"an export of {self.image}"

    def begin(self, opening: Deferred[IArchive]) -> None:
        """
        Read.
        """

        async def read() -> None:
            archive = None
            try:
                archive = await opening
                self.size = archive.size
                while data := await archive.read(PIECE):
                    self.got += len(data)
                self.whole = True
            except (XferdError, CancelledError):
                pass
            finally:
                self.over = True
                if archive is not None:
                    archive.close()

        self.work = Deferred.fromCoroutine(read())

    def wrong(self) -> str:
        """
        Whether it got another number of bytes than was announced.
        """
        return f"{self} has {self.got} of {self.size} bytes" if self.whole and self.got != self.size else ""
