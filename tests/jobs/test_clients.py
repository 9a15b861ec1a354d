"""
Tests for jobs of clients with their own credentials.
"""

from __future__ import annotations

from typing import Any

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.credentials import Credentials, Secret
from xferd.errors import Denied
from xferd.testing.images import SampleImage, sample_image

ANN, BOB = (Credentials(name, Secret("hunter2")) for name in ("ann", "bob"))


class ClientsTests(JobsCase):
    """
    A client's credentials are used for its own jobs, and shown to no other
    client.
    """

    def setUp(self) -> None:
        """
        Put an image where only Ann can see it.
        """
        super().setUp()
        self.hers = self.registries.registry(HOST, "ann")
        self.image: SampleImage = sample_image(2)
        self.hers.add(self.image, "app")

    def begin(self, credentials: Credentials | None, *hosts: str) -> str:
        """
        Begin to pull it.
        """
        brought = None if credentials is None else dict.fromkeys(hosts or (HOST,), credentials)
        return str(self.jobs.pull(f"{HOST}/app", None, "ci", 0, brought)["id"])

    def denied(self, who: str) -> None:
        """
        Have the registry refuse its manifest to a client.
        """
        error = Denied("not yours", host=HOST, status=401)
        self.registries.registry(HOST, who).gate.fail("manifest", error, "latest", times=10)

    def test_pull(self) -> None:
        """
        A pull makes all requests with the client's credentials.
        """
        job_id = self.begin(ANN)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.registry.requests, [])
        self.assert_idle()

    def test_other_host(self) -> None:
        """
        Towards other registries, a client is the daemon's user.
        """
        job_id = self.begin(ANN, OTHER)
        self.settle()
        self.assert_failed(job_id, "MANIFEST_UNKNOWN")

    def test_not_let_in_by_another(self) -> None:
        """
        A client that requests a tag while another does gets what its own
        credentials allow, in any order.
        """
        self.denied("bob")
        self.denied("")
        for order in ((ANN, BOB, None), (None, BOB, ANN)):
            jobs = {who: self.begin(who) for who in order}
            self.settle()
            self.assert_done(jobs[ANN])
            self.assert_failed(jobs[BOB], "DENIED")
            self.assert_failed(jobs[None], "DENIED")
        self.assert_idle()

    def test_shared(self) -> None:
        """
        Two clients with access to an image share its transfers, including its
        config; when the source of one fails, that of the other is used.
        """
        self.registries.registry(HOST, "bob").add(self.image, "app")
        config = self.image.config.digest
        self.hers.gate.fail("document", Denied("no more", host=HOST, status=401))
        jobs = [self.begin(ANN), self.begin(BOB)]
        self.settle()
        self.assert_done(jobs[1])
        blobs = [layer.blob.digest for layer in self.image.layers]
        his = self.registries.registry(HOST, "bob")
        for digest in blobs:
            self.assertEqual(self.hers.count("blob", digest) + his.count("blob", digest), 1)
        self.assertEqual((self.hers.count("document", config), his.count("document", config)), (1, 1))
        self.assertEqual(self.registry.requests, [])

    def test_push_and_copy(self) -> None:
        """
        A push and a copy use the credentials for the hosts that they are for.
        """
        theirs = self.registries.registry(OTHER, "bob")
        copy = self.copy(credentials={HOST: ANN, OTHER: BOB})
        self.settle()
        self.assert_done(copy)
        self.assertIsNotNone(theirs.document_of("app", "latest"))
        self.assertEqual(self.other.requests, [])
        self.settle()
        self.assert_done(self._settled(self.begin(ANN)))
        push = self.jobs.push(f"{HOST}/app", f"{OTHER}/app:2", (), None, "ci", 0, {OTHER: BOB})
        self.assert_done(self._settled(str(push["id"])))
        self.assertIsNotNone(theirs.document_of("app", "2"))
        self.assertEqual(self.other.requests, [])

    def _settled(self, job_id: str) -> str:
        self.settle()
        return job_id

    def test_told_to_nobody(self) -> None:
        """
        Neither the journal, nor a job, a transfer or an event has anything of
        the credentials.
        """
        stream = self.jobs.events(None)
        first = stream.get()
        blob = self.image.layers[0].blob.digest
        self.hers.stall(blob)
        job_id = self.begin(ANN)
        self.settle()
        told: list[Any] = [self.successResultOf(first)]
        told += [self.jobs.transfers(), self.jobs.get(job_id), self.jobs.all()]
        self.assertIn(f"manifest {HOST}/app latest", {t["key"] for t in self._transfers_of_manifest()})
        self.hers.finish(blob)
        self.settle()
        self.assert_done(job_id)
        told.append(self.successResultOf(stream.get()))
        written = self.store.journal.jobs(10)
        self.settle()
        told += [self.jobs.get(job_id), self.successResultOf(written)]
        text = repr(told)
        self.assertIn(job_id, text)
        for secret in ("hunter2", "<secret>", "ann"):
            self.assertNotIn(secret, text)

    def _transfers_of_manifest(self) -> list[dict[str, Any]]:
        """
        The transfers while a manifest is requested.
        """
        self.hers.gate.hold("manifest", "latest")
        job_id = self.begin(ANN)
        self.settle()
        found = [dict(transfer) for transfer in self.jobs.transfers()]
        self.jobs.cancel(job_id)
        self.hers.gate.release("manifest", "latest")
        self.settle()
        return found
