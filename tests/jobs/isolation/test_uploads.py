"""
Tests for L{xferd.jobs.isolation}: uploads of several clients.
"""

from __future__ import annotations

from tests.jobs.case import HOST, OTHER
from tests.jobs.isolation.case import ANN, BOB, RightsCase
from xferd.credentials import Credentials
from xferd.errors import Denied
from xferd.names import Repository
from xferd.testing.fake_registry import FakeRegistry


class UploadsCase(RightsCase):
    """
    Clients that push one image of the store to one repository, each with its
    own credentials.
    """

    def setUp(self) -> None:
        """
        Have the image in the store, and hold the bytes of its layer.
        """
        super().setUp()
        self.assert_done(self.begin(ANN))
        self.targets = [self.registries.registry(OTHER, name) for name in ("ann", "bob", "")]
        for target in self.targets:
            target.uploads.stall(self.blob)

    def send(self, who: Credentials | None) -> str:
        """
        Begin to push.
        """
        brought = None if who is None else {OTHER: who}
        job = self.jobs.push(f"{HOST}/app", f"{OTHER}/app", (), None, "ci", 0, brought)
        self.settle()
        return str(job["id"])

    def broken(self, who: Credentials | None, target: FakeRegistry) -> None:
        """
        Push 40,000 bytes of the layer, and have the rest refused.
        """
        job_id = self.send(who)
        target.uploads.feed(self.blob, 40_000)
        self.settle()
        target.uploads.fail(self.blob, Denied("no more", host=OTHER))
        self.settle()
        self.assert_failed(job_id, "DENIED")

    def offsets(self, target: FakeRegistry) -> list[int]:
        """
        The offsets at which attempts to push the layer began.
        """
        return [r.offset for r in target.requests if r.kind == "push" and r.wanted == str(self.blob)]

    def restart(self, sharing: str) -> None:
        """
        Stop the daemon and start another one.
        """
        self.stop(self.jobs)
        self.sharing = sharing
        self.jobs = self.make_jobs()
        self.start()


class IsolatedUploadTests(UploadsCase):
    """
    Uploads in isolated mode.
    """

    sharing = "isolated"

    def test_credentials(self) -> None:
        """
        A client's bytes are sent with its own credentials, not with those of
        another client whose upload of the blob to the repository runs.
        """
        jobs = [self.send(ANN), self.send(BOB), self.send(BOB), self.send(None)]
        self.assertEqual([len(target.uploads.running(self.blob)) for target in self.targets], [1, 1, 1])
        keys = {str(t["key"]) for t in self.jobs.transfers()}
        self.assertIn(f"upload {OTHER}/app {self.blob} {OTHER}/app", keys)
        self.assertNotIn("ann", repr(keys))
        for target in self.targets:
            target.uploads.finish(self.blob)
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual([target.count("push", self.blob) for target in self.targets], [1, 1, 1])
        self.assert_idle()

    def test_others_end(self) -> None:
        """
        When a client is refused or cancelled, the upload of another client
        continues.
        """
        ann, bob, own = self.send(ANN), self.send(BOB), self.send(None)
        self.targets[0].uploads.fail(self.blob, Denied("not yours", host=OTHER))
        self.jobs.cancel(own)
        self.settle()
        self.assert_failed(ann, "DENIED")
        self.targets[1].uploads.finish(self.blob)
        self.settle()
        self.assert_done(bob)
        self.assertEqual(self.job(own)["state"], "cancelled")

    def test_sessions(self) -> None:
        """
        An upload session is continued with the credentials that began it, and
        with no others.
        """
        self.broken(ANN, self.targets[0])
        for who, target in ((BOB, self.targets[1]), (None, self.targets[2]), (ANN, self.targets[0])):
            target.uploads.finish(self.blob)
            self.assert_done(self.send(who))
        self.assertEqual([self.offsets(t) for t in self.targets], [[0, 40_000], [0], [0]])

    def test_restart(self) -> None:
        """
        After a restart, the upload sessions of the daemon's own credentials are
        kept; clients' credentials and their sessions are not stored.
        """
        for who, target in ((ANN, self.targets[0]), (None, self.targets[2])):
            self.broken(who, target)
        ((key, session),) = self.store.journal.sessions.items()
        self.assertEqual(key, (Repository(OTHER, "app"), self.blob))
        self.assertTrue(session.isolated)
        self.restart("isolated")
        for who, target in ((BOB, self.targets[1]), (ANN, self.targets[0]), (None, self.targets[2])):
            target.uploads.finish(self.blob)
            self.assert_done(self.send(who))
        self.assertEqual([self.offsets(t) for t in self.targets], [[0, 0], [0], [0, 40_000]])


class SharedUploadTests(UploadsCase):
    """
    Uploads where clients share.
    """

    def test_becomes_isolated(self) -> None:
        """
        A session from before the isolated mode belongs to no client.
        """
        self.broken(ANN, self.targets[0])
        self.assertEqual(len(self.store.journal.sessions), 1)
        self.restart("isolated")
        self.assertEqual(self.store.journal.sessions, {})
        self.targets[2].uploads.finish(self.blob)
        self.assert_done(self.send(None))
        self.assertEqual(self.offsets(self.targets[2]), [0])

    def test_becomes_shared(self) -> None:
        """
        A session of the daemon's own credentials is continued where clients
        share again.
        """
        self.restart("isolated")
        self.broken(None, self.targets[2])
        self.restart("shared")
        self.targets[2].uploads.finish(self.blob)
        self.assert_done(self.send(None))
        self.assertEqual(self.offsets(self.targets[2]), [0, 40_000])
