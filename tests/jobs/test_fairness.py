"""
Tests for what clients of healthy registries notice of others: as little as
can be.
"""

from __future__ import annotations

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.testing.images import sample_image

MUTE = "mute.example"


class MuteTests(JobsCase):
    """
    A registry that takes requests and answers none.
    """

    def test_documents(self) -> None:
        """
        Pulls from a registry that answers nothing take all slots for
        documents, and a pull of an image that is here takes no longer for it.
        """
        image = self.add(sample_image(2))
        self.pulled()
        mute = self.registries.registry(MUTE)
        mute.gate.hold("manifest")
        stuck = [str(self.jobs.pull(f"{MUTE}/app{n}", None, "ci", 0)["id"]) for n in range(12)]
        self.settle()
        self.assertEqual(mute.gate.waiting("manifest"), 8)
        self.assertEqual(self.pulled()["result"]["digest"], str(image.digest))
        for job_id in stuck:
            self.jobs.cancel(job_id)
        self.assert_idle()

    def test_layers(self) -> None:
        """
        The same for the layers' slots, which three such registries hold.
        """
        self.add(sample_image(2))
        stuck = []
        for n in range(3):
            mute, image = self.registries.registry(f"{n}.{MUTE}"), sample_image(1, seed=f"mute {n}")
            mute.add(image, "app")
            mute.gate.hold("open")
            stuck.append(str(self.jobs.pull(f"{n}.{MUTE}/app", None, "ci", 0)["id"]))
        self.settle()
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 3)
        self.pulled()
        for job_id in stuck:
            self.jobs.cancel(job_id)
        self.assert_idle()

    def test_said(self) -> None:
        """
        The transfer in a further slot has a reason that says so.
        """
        for n in range(3):
            image = sample_image(1, seed=n)
            self.registries.registry(MUTE).add(image, f"app{n}")
            self.registries.registry(MUTE).gate.hold("open")
            self.jobs.pull(f"{MUTE}/app{n}", None, "ci", 0)
        image = self.add(sample_image(1, seed="healthy"))
        self.settle()
        self.registry.stall(image.layers[0].blob.digest)
        self.pull()
        self.settle()
        (transfer,) = [
            t
            for t in self.jobs.transfers()
            if t["kind"] == "download" and t["digest"] == str(image.layers[0].blob.digest)
        ]
        self.assertEqual(transfer["why"], "in a further slot, as others hold all 3")


class RecalledTests(JobsCase):
    """
    A transfer whose slot was lent, and is wanted back for another host.
    """

    downloads = 1

    def test_download(self) -> None:
        """
        It resumes later, and counts no failure.
        """
        third = self.registries.registry("third.example")
        for n, registry in enumerate((self.registry, self.other, third)):
            image = sample_image(1, 100_000, seed=n)
            registry.add(image, "app")
            registry.stall(image.layers[0].blob.digest)
        blob = sample_image(1, 100_000, seed=1).layers[0].blob.digest
        first = self.pull()
        self.settle()
        lent = str(self.jobs.pull(f"{OTHER}/app", None, "ci", 0)["id"])
        self.settle()
        self.other.feed(blob, 30_000)
        self.wait(4)
        last = str(self.jobs.pull("third.example/app", None, "ci", 0)["id"])
        self.settle()
        self.wait(2)
        self.assertEqual((len(third.open_bodies()), len(self.other.open_bodies())), (1, 0))
        (row,) = self.job(lent)["layers"]
        self.assertEqual((row["state"], row["bytes_done"]), ("waiting", 30_000))
        self.other.finish(blob)
        self.jobs.cancel(first)
        self.jobs.cancel(last)
        self.settle()
        self.assert_done(lent)
        self.assertEqual([r.offset for r in self.other.requests if r.kind == "blob"], [0, 30_000])

    def test_upload(self) -> None:
        """
        An upload resumes its session.
        """
        image = self.add(sample_image(1, 100_000))
        self.pulled()
        blob = image.layers[0].blob.digest
        third = self.registries.registry("third.example")
        self.jobs.change_limits({"uploads": 1})
        jobs = []
        for registry in (self.registries.registry("first.example"), self.other, third):
            registry.uploads.stall(blob)
            jobs.append(str(self.jobs.push(f"{HOST}/app", f"{registry.host}/to", [], None, "ci", 0)["id"]))
            self.settle()
            if registry is self.other:
                registry.uploads.feed(blob, 30_000)
                self.wait(4)
        self.wait(2)
        self.assertEqual((self.other.uploads.running(blob), len(third.uploads.running(blob))), ([], 1))
        self.other.uploads.finish(blob)
        self.jobs.cancel(jobs[0])
        self.jobs.cancel(jobs[2])
        self.settle()
        self.assert_done(jobs[1])
        offsets = [r.offset for r in self.other.requests if r.kind == "push" and r.wanted == str(blob)]
        self.assertEqual(offsets, [0, 30_000])
        self.assertEqual(self.other.uploads.aborted, [])


class SmallTests(JobsCase):
    """
    Small blobs, which have slots of their own.
    """

    small_blob = 50_000

    def stuck(self, how_many: int, size: int) -> None:
        """
        Begin pulls of layers that do not come.
        """
        for n in range(how_many):
            image = sample_image(1, size, seed=f"stuck {n}")
            self.registry.add(image, f"stuck{n}")
            self.registry.stall(image.layers[0].blob.digest)
            self.pull(f"stuck{n}")
        self.settle()

    def test_never_behind_large_ones(self) -> None:
        """
        Large layers hold all slots, of the same registry and client, and a
        small one comes at once.
        """
        self.stuck(4, 100_000)
        self.assertEqual(self.jobs.status()["slots"]["download"], {"limit": 3, "in_use": 3, "queued": 1})
        self.add(sample_image(2, 10_000))
        self.pulled()

    def test_four(self) -> None:
        """
        They have four slots, and use free ones of the others; then they wait,
        with the reason.
        """
        self.stuck(9, 10_000)
        slots = self.jobs.status()["slots"]
        self.assertEqual((slots["small_download"]["in_use"], slots["download"]["in_use"]), (4, 3))
        waiting = [
            t["why"] for t in self.jobs.transfers() if t["kind"] == "download" and t["state"] == "queued"
        ]
        self.assertIn("waiting for a small download slot, 1st in line", waiting)

    def test_uploads(self) -> None:
        """
        It is the same with uploads.
        """
        self.add(sample_image(1, 100_000))
        self.pulled()
        self.registry.gate.hold("push")
        for n in range(7):
            self.jobs.push(f"{HOST}/app", f"{HOST}/to{n}", [], None, "ci", 0)
        self.settle()
        slots = self.jobs.status()["slots"]
        # Of seven layers and seven configs, one config came before the slots were taken.
        self.assertEqual((slots["upload"]["in_use"], slots["upload"]["queued"]), (5, 3))
        self.assertEqual((slots["small_upload"]["in_use"], slots["small_upload"]["queued"]), (4, 2))
        self.registry.gate.release("push")
        self.settle()
        self.assert_idle()


class SharesTests(JobsCase):
    """
    Two registries that both have large images.
    """

    def test_half(self) -> None:
        """
        Of three slots one host gets two while another one waits.
        """
        for registry, seed in ((self.registry, 1), (self.other, 2)):
            image = sample_image(9, seed=seed)
            registry.add(image, "app")
            for layer in image.layers:
                registry.stall(layer.blob.digest)
        self.pull()
        self.settle()
        self.jobs.pull(f"{OTHER}/app", None, "ci", 0)
        self.settle()
        # A lone host had them all; the other one got a further one.
        self.assertEqual((len(self.registry.open_bodies()), len(self.other.open_bodies())), (3, 1))
        for registry in (self.registry, self.other):
            for body in registry.open_bodies()[:2]:
                registry.finish(body.digest)
        self.settle()
        self.assertEqual((len(self.registry.open_bodies()), len(self.other.open_bodies())), (2, 1))
