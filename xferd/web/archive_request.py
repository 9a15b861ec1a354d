# -*- test-case-name: tests.web.test_archives -*-
"""
Requests that upload and download archives.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from werkzeug.exceptions import UnsupportedMediaType

from xferd.archive.plan import FORMS
from xferd.errors import BadInput, NotFound
from xferd.web.fields import SIZE, Body
from xferd.web.request import header, quoted

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest
    from twisted.web.server import Request

    from xferd.interfaces.jobs import IJobs, IUploadStream

MAX_PIECE: Final = 4 * 1024 * 1024
"""The largest piece of an archive, in bytes."""

ARCHIVE_END: Final = Body("the end of an archive", SIZE)

_PIECE_TYPE = "application/octet-stream"
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


def is_piece(request: HTTPRequest) -> bool:
    """
    Whether the Content-Type of a request is that of a piece of an archive.
    """
    return (header(request, b"content-type") or "").partition(";")[0].strip().lower() == _PIECE_TYPE


def read_piece(request: Request) -> tuple[int, bytes]:
    """
    Read a piece of an archive.

    @return: its offset and its bytes.
    @raise UnsupportedMediaType: the Content-Type is another.  As for JSON, the
        type is required since a cross-site form cannot send it without a CORS
        preflight.
    @raise BadInput: the C{Content-Range} is missing or not valid.
    """
    if not is_piece(request):
        raise UnsupportedMediaType(f"send a piece of an archive as {_PIECE_TYPE}")
    assert request.content is not None
    data: bytes = request.content.read()
    match = _RANGE.fullmatch(header(request, b"content-range") or "")
    if match is None or int(match[2]) - int(match[1]) + 1 != len(data):
        raise BadInput(
            "a piece of an archive has a Content-Range FIRST-LAST, the offsets of its first and last byte"
        )
    return int(match[1]), data


def read_size(request: Request) -> int:
    """
    Read the size of an archive that has been sent in full.

    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: it is not valid.
    """
    return int(ARCHIVE_END.read(request)["size"])


def read_format(request: Request) -> str:
    """
    Read the format of the requested archive.

    @raise BadInput: the format is unknown, or the query has other parameters.
    """
    asked = {
        name.decode("utf-8", "replace"): values[-1].decode("utf-8", "replace")
        for name, values in (request.args or {}).items()
    }
    form: str = asked.pop("format", FORMS[0])
    if form not in FORMS or asked:
        known = " or ".join(repr(known) for known in FORMS)
        raise BadInput(f"an archive's 'format' is {known}, not {quoted(next(iter(asked), form))}")
    return form


async def upload_stream_of(jobs: IJobs, job_id: str) -> IUploadStream:
    """
    Find the stream to which the pieces of an import's archive go.

    @raise NotFound: there is no such job.
    @raise BadInput: it is not an import, or has ended.
    """
    try:
        return jobs.upload_stream(job_id)
    except NotFound:
        job = await jobs.find(job_id)
        raise BadInput(f"the {job['kind']} {job_id} has ended ({job['state']})") from None
