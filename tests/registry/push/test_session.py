"""
Tests for L{xferd.registry.push.session} and L{xferd.registry.access}, over real
sockets: proofs, and ends.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tests.registry.pushing import ANN, DATA, KIB, Bytes, Pushing
from xferd.errors import (
    Denied,
    TimedOut,
)
from xferd.interfaces.registry import Pushed, UploadSession
from xferd.names import Repository
from xferd.registry.transport.timeouts import Timeouts
from xferd.testing.answers import BEFORE_HEADERS
from xferd.testing.faults import (
    Drop,
    Fault,
    Stall,
    unauthorized,
    unavailable,
)
from xferd.testing.layers import Blob
from xferd.testing.tokens import BasicGuard, TokenServer


class ProofTests(Pushing):
    """
    Registries want to know who pushes, all along.
    """

    async def _with_tokens(self) -> TokenServer:
        tokens = TokenServer(self.reactor, users={"ann": "secret"})
        await tokens.listen(self.reactor)
        self.addCleanup(tokens.stop)
        self.credentials = ANN
        self.registry = await self.serve(guard=tokens)
        return tokens

    async def test_basic(self) -> None:
        """
        With a password, or not at all.
        """
        self.registry = await self.serve(guard=BasicGuard({"ann": "secret"}))
        await self.fails(Denied)
        self.credentials = ANN
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()

    async def test_token_expires(self) -> None:
        """
        A token that is refused in the middle is replaced, once, and costs the
        chunk that was refused.
        """
        tokens = await self._with_tokens()

        class Revoke(Fault):
            def on_request(self, request: object) -> None:
                tokens.revoke()

        self.plant(Fault(), "PATCH")
        self.plant(Revoke(), "PATCH")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual(len(tokens.fetches), 2)
        self.assertLessEqual(self.registry.bytes_received, len(DATA) + 1024 * KIB)

    async def test_refused_for_ever(self) -> None:
        """
        Requests to a registry that refuses every token end.
        """
        tokens = await self._with_tokens()
        challenge = f'Bearer realm="{tokens.url}/token",service="registry.test"'
        self.plant(unauthorized(challenge), "PATCH", None)
        await self.fails(Denied)
        self.assertLess(self.methods().count("PATCH"), 5)

    async def test_mount_scopes(self) -> None:
        """
        A mount needs one token for both repositories.
        """
        tokens = await self._with_tokens()
        self.registry.storage.put_blob("team/b", Blob.of("x/y", DATA))
        how = await self.push(candidates=["team/b"])
        self.assertEqual(how.how, "mounted")
        scopes = set(tokens.fetches[-1].scopes)
        self.assertEqual(scopes, {"repository:team/a:pull,push", "repository:team/b:pull"})

    async def test_may_only_pull(self) -> None:
        """
        A client without the right to push gets an error that states it.
        """
        await self._with_tokens()
        self.credentials = None
        error = await self.fails(Denied)
        self.assertIn("push", str(error))


class EndTests(Pushing):
    """
    Pushes end when they are cancelled, or when they stall.
    """

    async def test_cancelled(self) -> None:
        """
        Cancelling stops the body at once and leaves the session, which
        can be resumed or deleted.
        """
        self.plant(Stall(BEFORE_HEADERS), "PATCH")
        work = self.push()
        while not self.methods().count("PATCH"):
            await self.turn()
        work.cancel()
        await self.fails_with(work, CancelledError)
        session = self.remembered[-1]
        assert session is not None
        self.assertEqual(self.registry.sessions, 1)
        host = self.registry.host
        target = self.client.repository(Repository(host, "team/a"))
        await target.abort(session)
        self.assertEqual(self.registry.sessions, 0)
        await target.abort(session)

    async def test_cancelled_in_body(self) -> None:
        """
        Also while the registry takes nothing.
        """
        content = Bytes(DATA)
        work = self.push(content=content)
        self.plant(Fault(), "PATCH", None)
        while not content.read_bytes:
            await self.turn()
        work.cancel()
        await self.fails_with(work, CancelledError)
        read = content.read_bytes
        for _ in range(20):
            await self.turn()
        self.assertEqual(content.read_bytes, read)

    async def test_no_answer(self) -> None:
        """
        A registry that receives all bytes and does not respond is a timeout.
        """
        self.client = self.make_client(Timeouts(commit=0.2))
        self.plant(Stall(BEFORE_HEADERS), "PATCH")
        error = await self.fails(TimedOut)
        self.assertIn("did not answer", str(error))

    async def test_abort_never_fails(self) -> None:
        """
        Aborting a session ends in time and without an error, for every response
        of the registry.
        """
        self.client = self.make_client(Timeouts(close=0.2))
        host = self.registry.host
        target = self.client.repository(Repository(host, "team/a"))
        session = UploadSession(f"{self.registry.url}/v2/team/a/blobs/uploads/x", 5)
        self.plant(Stall(BEFORE_HEADERS), "DELETE")
        self.plant(unavailable(), "DELETE")
        self.plant(Drop(BEFORE_HEADERS), "DELETE", 2)
        for _ in range(3):
            await target.abort(session)
