"""
Tests for L{xferd.engines.cri.pull_credentials}.
"""

from __future__ import annotations

from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.credentials import Credentials, Secret
from xferd.engines.cri.pull_credentials import MAX_SECRET, MOST, PullCredentials, read_auth
from xferd.engines.proto.cri_pb2 import AuthConfig
from xferd.interfaces.engines import ICredentialsOf

HOST = "r.example:5000"
ANN = AuthConfig(username="ann", password="p")
BOB = AuthConfig(username="bob", password="q")
PAIR = b64encode(b"ann:p:x").decode()
SHA = "sha256:" + "a" * 64


class ReadTests(SynchronousTestCase):
    """
    L{read_auth}.
    """

    def read(self, host: str = HOST, **fields: str) -> Credentials | None:
        """
        Read the credentials with these fields.
        """
        return read_auth(AuthConfig(**fields), host)

    def test_forms(self) -> None:
        """
        Each form by itself.
        """
        self.assertEqual(self.read(username="ann", password="p"), Credentials("ann", Secret("p")))
        self.assertEqual(self.read(auth=PAIR), Credentials("ann", Secret("p:x")))
        self.assertEqual(self.read(identity_token="t"), Credentials("", identity_token=Secret("t")))
        self.assertEqual(self.read(registry_token="t"), Credentials("", registry_token=Secret("t")))

    def test_none(self) -> None:
        """
        Empty and malformed credentials are ignored.
        """
        long = "x" * (MAX_SECRET + 1)
        self.assertIsNone(self.read())
        for fields in ({"password": "p"}, {"auth": "?"}, {"registry_token": "é"}, {"identity_token": long}):
            self.assertIsNone(self.read(**fields), fields)

    def test_order(self) -> None:
        """
        Of several forms containerd's choice counts.
        """
        forms = {"registry_token": "r", "auth": PAIR, "identity_token": "t", "username": "u", "password": "p"}
        chosen = [
            Credentials("", registry_token=Secret("r")),
            Credentials("ann", Secret("p:x")),
            Credentials("", identity_token=Secret("t")),
            Credentials("u"),
            Credentials("u", Secret("p")),
        ]
        for count, credentials in enumerate(chosen, 1):
            self.assertEqual(self.read(**dict(list(forms.items())[:count])), credentials)

    def test_server(self) -> None:
        """
        Credentials for another registry are not used.
        """
        for server in (HOST, f"https://{HOST}", f"http://{HOST}/v1/"):
            self.assertTrue(self.read(username="u", server_address=server), server)
        for server in ("other.example", "r.example", "https://", "a b"):
            self.assertIsNone(self.read(username="u", server_address=server), server)
        for server in ("https://index.docker.io/v1/", "docker.io"):
            self.assertTrue(self.read("docker.io", username="u", server_address=server), server)


class PullCredentialsTests(SynchronousTestCase):
    """
    L{PullCredentials}.
    """

    def setUp(self) -> None:
        """
        Make an empty table.
        """
        self.kept = PullCredentials()

    def user(self, image: str) -> str | None:
        """
        The name of the account for an image.
        """
        found = self.kept.credentials_of(image)
        self.assertLessEqual(len(found), 1)
        return next((credentials.username for credentials in found.values()), None)

    def test_interface(self) -> None:
        """
        It provides its Interface.
        """
        verifyObject(ICredentialsOf, self.kept)

    def test_pull(self) -> None:
        """
        They are there while the pull runs, and no longer; its end may come twice.
        """
        ended = self.kept.keep(f"{HOST}/app:1", ANN)
        self.assertEqual(set(self.kept.credentials_of(f"{HOST}/app:1")), {HOST})
        ended()
        ended()
        self.assertIsNone(self.user(f"{HOST}/app:1"))
        self.assertEqual(len(self.kept), 0)

    def test_names(self) -> None:
        """
        Names are compared as containerd writes them in its label.
        """
        self.kept.keep("app", ANN)
        self.kept.keep(f"{HOST}/x:1@{SHA}", BOB)
        self.assertEqual(self.user("docker.io/library/app:latest"), "ann")
        self.assertEqual(self.user(f"{HOST}/x@{SHA}"), "bob")
        self.assertEqual(self.user(f"{HOST}/x:2"), "bob")
        for other in (f"{HOST}/y:1", "docker.io/library/y:latest", "r.example/x:1", "", "NO REFERENCE"):
            self.assertIsNone(self.user(other), other)

    def test_several(self) -> None:
        """
        The pull of the same image comes first, and of these the newest.
        """
        self.kept.keep(f"{HOST}/app:1", ANN)
        ended = self.kept.keep(f"{HOST}/app:2", BOB)
        self.assertEqual([self.user(f"{HOST}/app:{tag}") for tag in (1, 2, 3)], ["ann", "bob", "bob"])
        self.kept.keep(f"{HOST}/app:1", BOB)
        self.assertEqual(self.user(f"{HOST}/app:1"), "bob")
        ended()

    def test_without(self) -> None:
        """
        Pulls without credentials, and those of malformed names, keep nothing.
        """
        self.kept.keep(f"{HOST}/app:1", AuthConfig())()
        self.kept.keep("NO REFERENCE", ANN)()
        self.assertEqual(len(self.kept), 0)

    def test_bounded(self) -> None:
        """
        The oldest ones are dropped when there are too many.
        """
        ends = [self.kept.keep(f"{HOST}/app{number}:1", ANN) for number in range(MOST + 1)]
        self.assertEqual(len(self.kept), MOST)
        self.assertEqual([self.user(f"{HOST}/app{n}:1") for n in (0, 1)], [None, "ann"])
        for ended in ends:
            ended()
        self.assertEqual(len(self.kept), 0)

    def test_secret(self) -> None:
        """
        Neither the table nor what it returns shows a secret.
        """
        self.kept.keep(f"{HOST}/app:1", AuthConfig(username="ann", password="hunter2"))
        shown = repr(self.kept.__dict__) + repr(self.kept.credentials_of(f"{HOST}/app:1"))
        self.assertNotIn("hunter2", shown)
