# -*- test-case-name: tests.engines.cri.test_image_service -*-
"""
CRI's C{ImageService}: every call is forwarded to containerd unchanged.  Of C{PullImage}
the credentials are kept while it runs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from xferd.engines.cri.pull_credentials import PullCredentials
from xferd.engines.grpc.client import GrpcClient, Options
from xferd.engines.grpc.messages import decode
from xferd.engines.grpc.service import Call, GrpcService, raw_streaming
from xferd.engines.grpc.status import GrpcError
from xferd.engines.proto.cri_pb2 import PullImageRequest

VERSIONS: Final = ("v1", "v1alpha2")
"""Versions of CRI: kubelet before 1.26 may ask for the second one."""

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of one answer, as kubelet limits them: a node may have many images."""


class ImageService:
    """
    The image services of one containerd.
    """

    def __init__(self, client: GrpcClient, credentials: PullCredentials) -> None:
        self._client = client
        self._credentials = credentials

    def services(self) -> list[GrpcService]:
        """
        What a server serves.  On the wire, one answer is a stream of one, so that
        methods of both kinds, later ones as well, are forwarded alike.
        """
        pull, other = raw_streaming(self._pull), raw_streaming(self._forward)
        return [
            GrpcService(f"runtime.{version}.ImageService", {"PullImage": pull}, other) for version in VERSIONS
        ]

    async def _forward(self, request: bytes, call: Call) -> AsyncGenerator[bytes, None]:
        """
        Forward a call.
        """
        answers = self._client.raw_streaming(call.path, request, Options(call.metadata, call.timeout))
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def _pull(self, request: bytes, call: Call) -> AsyncGenerator[bytes, None]:
        """
        Forward a pull, whose credentials are kept meanwhile.
        """
        try:
            pull = decode(PullImageRequest, request)
        except GrpcError:
            # containerd has its own answer to that.
            pull = PullImageRequest()
        ended = self._credentials.keep(pull.image.image, pull.auth)
        try:
            async with aclosing(self._forward(request, call)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            ended()
