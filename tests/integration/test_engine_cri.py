"""
CRI's clients pull private images through the daemon's socket.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import cast

from twisted.internet import reactor as installed

from tests.integration.containerds import NEWEST
from tests.integration.peers import PeerFailed, require
from tests.integration.test_engine_containerd import ContainerdCase, runnable_image
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.proto.cri_pb2 import AuthConfig, ImageSpec, PullImageRequest, PullImageResponse
from xferd.interfaces.reactor import IReactor

reactor = cast(IReactor, installed)

PASSWORD = "hunter2-of-ann"


class NewestTests(ContainerdCase):
    """
    containerd 2, and a registry that wants a password that xferd itself does not have.
    """

    users: Mapping[str, str] = {"ann": PASSWORD}
    more = 'cri = true\naddress = "PLACE/c/s"\n'

    async def crictl(self, *arguments: str) -> str:
        """
        Run crictl with the daemon's image service.
        """
        return await self.containerd.crictl(*arguments, images=self.socket)

    async def test_pull(self) -> None:
        """
        The credentials of a pull reach xferd's own: containerd fetches no blob.  They do
        not reach the log.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.crictl("pull", "--creds", f"ann:{PASSWORD}", reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        content = await self.containerd.ctr("content", "ls", "-q", namespace="k8s.io")
        self.assertEqual(len(content.split()), 2, content)
        (job,) = await self.daemon.show("jobs", "--all")
        self.assertEqual((job["state"], job["client"]), ("done", "containerd main"))
        listed = json.loads(await self.crictl("images", "--output", "json"))
        self.assertEqual([each["repoTags"] for each in listed["images"]], [[reference]])
        self.assertIn("imageFilesystems", await self.crictl("imagefsinfo"))
        await self.crictl("rmi", reference)
        self.assertEqual(json.loads(await self.crictl("images", "--output", "json")), {"images": []})
        self.assertNotIn(PASSWORD, self.daemon.output)

    async def test_denied(self) -> None:
        """
        Without credentials, and with wrong ones, the pull fails as containerd's own does.
        """
        require(f"{NEWEST}/crictl")
        reference = self.add(runnable_image())
        for more in ((), ("--creds", "ann:wrong")):
            with self.assertRaises(PeerFailed) as caught:
                await self.crictl("pull", *more, reference)
            self.assertIn("PullImage", str(caught.exception))
        self.assertEqual(await self.daemon.show("jobs", "--all"), [])


class DebiansTests(NewestTests):
    """
    Debian's containerd.
    """

    newest = False

    async def test_alpha(self) -> None:
        """
        The older version of CRI, with the password in another form.
        """
        image = runnable_image()
        reference = self.add(image)
        auth = AuthConfig(auth=b64encode(f"ann:{PASSWORD}".encode()).decode())
        client = GrpcClient(self.socket, reactor)
        self.addCleanup(client.close)
        answer = await client.unary(
            "/runtime.v1alpha2.ImageService/PullImage",
            PullImageRequest(image=ImageSpec(image=reference), auth=auth),
            PullImageResponse,
        )
        self.assertTrue(answer.image_ref.startswith("sha256:"))
        (job,) = await self.daemon.show("jobs", "--all")
        self.assertEqual(job["state"], "done")
