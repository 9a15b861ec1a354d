"""
Shared by the tests of imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.jobs.case import JobsCase
from xferd.interfaces.store import Image
from xferd.names import Reference

PIECE = 10_000


class ImportCase(JobsCase):
    """
    A client that imports.
    """

    def begin(
        self, reference: str | None = None, platform: str | None = None, size: int | None = None
    ) -> str:
        """
        Begin to import; returns the job's id.
        """
        return str(self.jobs.import_archive(reference, platform, size, "ci", 0)["id"])

    def give(self, job_id: str, data: bytes, offset: int = 0) -> int:
        """
        Send some bytes of an archive, as far as the job wants them.
        """
        end = offset + len(data)
        while offset < end:
            piece = data[: PIECE if end - offset > PIECE else end - offset]
            sending = self.jobs.upload_stream(job_id).put(offset, piece)
            results: list[Any] = []
            _ = sending.addBoth(results.append)
            self.settle()
            if self.job(job_id)["state"] != "running":
                return offset
            self.assertEqual(results, [offset + len(piece)])
            data, offset = data[len(piece) :], offset + len(piece)
        return offset

    def send(self, data: bytes, reference: str | None = None, platform: str | None = None) -> str:
        """
        Send an archive to an import until it ends.
        """
        job_id = self.begin(reference, platform, len(data))
        self.give(job_id, data)
        if self.job(job_id)["state"] == "running":
            self.end_archive(job_id, len(data))
            self.settle()
        return job_id

    def imported(self, data: bytes, reference: str | None = None, **how: Any) -> Mapping[str, Any]:
        """
        Import an archive, and see that it was no failure.
        """
        job_id = self.send(data, reference, **how)
        self.assert_done(job_id)
        self.assert_idle()
        return self.job(job_id)

    def refused(
        self, data: bytes, code: str = "ARCHIVE_INVALID", reference: str | None = None, **how: Any
    ) -> str:
        """
        Import an archive that is refused; returns the message.
        """
        job_id = self.send(data, reference, **how)
        message = self.assert_failed(job_id, code)
        self.assertEqual(self.store.images.all(), [])
        self.assert_idle()
        return message

    def image(self, name: str) -> Image:
        """
        An image of the store.
        """
        image = self.store.images.get(Reference.parse(name))
        assert image is not None, [str(i.reference) for i in self.store.images.all()]
        return image

    def assert_idle(self) -> None:
        """
        The import has released everything as well.
        """
        super().assert_idle()
        self.assertEqual(self.store.blobs.anonymous_open, set())
