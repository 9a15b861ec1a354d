"""
Tests for L{xferd.jobs.reporter}, and for the cost of a job's progress.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.jobs.case import JobsCase
from xferd.interfaces.jobs import Event, IEventStream
from xferd.interfaces.transfer import IProgressSink
from xferd.jobs.reporter import FetchSink, RowSink
from xferd.jobs.rows import BlobRow, LayerRow
from xferd.names import Digest
from xferd.testing.images import image_of, sample_image, sample_layer

LAYERS = 20


class SinkTests(SynchronousTestCase):
    """
    Tests for L{RowSink} and L{FetchSink}.
    """

    def test_interface(self) -> None:
        """
        Transfers may report to them.
        """
        blob = sample_layer(10).blob.descriptor
        verifyObject(IProgressSink, RowSink(LayerRow(0, blob), lambda *_: None))
        verifyObject(IProgressSink, FetchSink(BlobRow(0, blob), lambda *_: None))


class CostTests(JobsCase):
    """
    The events that one moving layer of many costs.
    """

    def read(self, stream: IEventStream) -> list[Event]:
        """
        Read the new events.
        """
        got: Deferred[list[Event]] = stream.get()
        self.wait(0.25)
        return self.successResultOf(got)

    def test_one_layer_moves(self) -> None:
        """
        A stream reads the job, the layer that moves and its transfers, and
        nothing of the other layers.
        """
        image = self.add(sample_image(LAYERS))
        moving = image.layers[0].blob.digest
        for layer in image.layers:
            self.registry.stall(layer.blob.digest)
        job_id = self.pull()
        self.wait(2)
        stream = self.jobs.events(job_id)
        self.assertEqual(len([e for e in self.read(stream) if e.kind == "layer"]), LAYERS)
        self.registry.feed(moving, 100)
        events = self.read(stream)
        job, layers, transfers = (
            [e.data for e in events if e.kind == kind] for kind in ("job", "layer", "transfer")
        )
        self.assertEqual([(job["bytes_done"], job["id"]) for job in job], [(100, job_id)])
        self.assertEqual([(layer["index"], layer["bytes_done"]) for layer in layers], [(0, 100)])
        self.assertEqual({t["digest"] for t in transfers}, {str(moving)})
        self.assertEqual(len(events), len({(e.kind, e.data["id"]) for e in events if "id" in e.data}) + 1)

    def test_shared(self) -> None:
        """
        An event of a transfer is made once for all streams, also where they
        follow different jobs.
        """
        image = self.add(sample_image(1))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        streams = [self.jobs.events(self.pull(client=client)) for client in ("one", "two")]
        self.wait(1)
        for stream in streams:
            self.read(stream)
        self.registry.feed(blob, 100)
        self.wait(0.5)
        one, two = (
            {e.data["id"]: e for e in self.read(stream) if e.kind == "transfer"} for stream in streams
        )
        fetch = self.transfer("download", blob)["id"]
        self.assertEqual(one[fetch].data["bytes_done"], 100)
        self.assertIs(one[fetch], two[fetch])

    def test_listed(self) -> None:
        """
        The row of a transfer that waits stays the same object until it changes.
        """
        image = self.add(sample_image(self.downloads + 2))
        for layer in image.layers:
            self.registry.stall(layer.blob.digest)
        self.pull()
        self.wait(1)

        def waiting() -> dict[str, str]:
            return {t["digest"]: t["why"] for t in self.jobs.transfers() if t["state"] == "queued"}

        first, second = (str(layer.blob.digest) for layer in image.layers[self.downloads :])
        before = self.transfer("download", Digest.parse(second))
        self.assertIs(self.transfer("download", Digest.parse(second)), before)
        self.assertEqual(
            waiting(),
            {
                first: "waiting for a download slot, 1st in line",
                second: "waiting for a download slot, 2nd in line",
            },
        )
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        self.assertEqual(waiting(), {second: "waiting for a download slot, 1st in line"})

    def test_sums(self) -> None:
        """
        The sums of a job are those of its layers, where the bytes of a blob
        that two layers have count once.
        """
        twice, once = sample_layer(5000, "twice"), sample_layer(5000, "once")
        self.add(image_of([twice, once, twice]))
        for layer in (twice, once):
            self.registry.stall(layer.blob.digest)
        job_id = self.pull()
        self.wait(1)
        sizes = [layer.blob.descriptor.size for layer in (twice, once)]
        for fed, done in (
            ({twice: 100}, 100),
            ({once: 200}, 300),
            ({twice: sizes[0]}, sizes[0] + 200),
            ({once: sizes[1]}, sum(sizes)),
        ):
            for layer, size in fed.items():
                self.registry.feed(layer.blob.digest, size)
            self.wait(1)
            (job,) = (job for job in self.jobs.all() if job["id"] == job_id)
            shown = self.job(job_id)
            self.assertEqual((job["bytes_done"], job["bytes_total"]), (done, sum(sizes)))
            layers = shown["layers"]
            self.assertEqual(layers[0]["bytes_done"], layers[2]["bytes_done"])
            self.assertEqual(sum(layer["bytes_done"] for layer in layers[:2]), done)
            finished = sum(layer["state"] == "done" for layer in layers)
            self.assertEqual((job["layers_done"], job["layers_total"]), (finished, 3))
        self.assert_done(job_id)
