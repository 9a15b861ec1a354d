# -*- test-case-name: tests.registry.auth.test_credential_helpers -*-
"""
Credential helpers: programs that keep credentials for docker.

C{docker-credential-NAME get} reads docker's name of the registry from stdin and
writes C{{"ServerURL", "Username", "Secret"}} to stdout, or an error, and exits
with another status than 0 (docker-credential-helpers, README, "Development").
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from xferd.credentials import Credentials
from xferd.descriptors import limited
from xferd.docker_config import NOT_FOUND, parse_helper_answer, server_of
from xferd.errors import CredentialsUnavailable
from xferd.registry.transport.errors import clean
from xferd.single_flight import SingleFlight
from xferd.waits import HELPER, waiting_for

LIFE: Final = 30.0
"""
Seconds for which a helper's answer is used: not every layer of a pull runs a
helper, and C{docker login} takes effect soon.
"""

MAX_OUTPUT: Final = 64 * 1024
"""Bytes that a helper may write."""


class HelperMissing(CredentialsUnavailable):
    """
    The program is not installed.
    """


class IHelperReactor(IReactorTime, IReactorProcess):
    """
    A reactor that runs programs.
    """


class _HelperTimeout(Exception):
    """
    The program took too long.
    """


class _TooMuchOutput(Exception):
    """
    The program wrote too much.
    """


@frozen
class HelperResult:
    """
    How a program ended.

    @ivar status: 0, another exit status, or minus the signal's number.
    """

    status: int
    stdout: bytes
    stderr: bytes


class _Run(ProcessProtocol):
    """
    One run of a program, with a text on its stdin.

    @ivar result: fires with L{HelperResult} when it has ended; cancelling kills it.
    """

    transport: IProcessTransport

    def __init__(self, stdin: bytes) -> None:
        self.result: Deferred[HelperResult] = Deferred(lambda _: self._kill())
        self._stdin = stdin
        self._output = {1: bytearray(), 2: bytearray()}

    def connectionMade(self) -> None:
        """
        Write all of its input.
        """
        self.transport.writeToChild(0, self._stdin)
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """
        Collect its output, within the limit.
        """
        self._output[childFD] += data
        if sum(map(len, self._output.values())) > MAX_OUTPUT:
            self.give_up(_TooMuchOutput())

    def give_up(self, error: Exception) -> None:
        """
        Kill it, and fail.
        """
        self._kill()
        if not self.result.called:
            self.result.errback(Failure(error))

    def processEnded(self, reason: Failure) -> None:
        """
        It has ended, and its pipes are closed.
        """
        if self.result.called:
            return
        status = getattr(reason.value, "exitCode", None)
        if status is None:
            status = -(getattr(reason.value, "signal", None) or 0)
        self.result.callback(HelperResult(status, bytes(self._output[1]), bytes(self._output[2])))

    def _kill(self) -> None:
        """
        Kill it, without waiting for its own children.
        """
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass
        self.transport.loseConnection()


class CredentialHelpers:
    """
    Runs credential helpers; concurrent requests for one registry share one run.
    Answers are remembered for L{LIFE} seconds.
    """

    def __init__(
        self,
        reactor: IHelperReactor,
        *,
        limit: float,
        environ: Mapping[str, str] | None = None,
        descriptors: int | None = None,
    ) -> None:
        """
        @param limit: seconds that a helper may take.
        @param environ: the helpers' environment; by default our own.
        @param descriptors: the helpers' soft limit of open files; by default
            our own.
        """
        self._reactor = reactor
        self._descriptors = descriptors
        self._limit = limit
        self._environ = environ
        self._known: dict[tuple[str, str], tuple[float, Credentials | None]] = {}
        self._flights: dict[tuple[str, str], SingleFlight[Credentials | None]] = {}

    def get(self, name: str, host: str, file: str) -> Deferred[Credentials | None]:
        """
        Get a registry's credentials from a helper.

        Cancelling the last of concurrent requests kills the helper.

        @param name: what follows C{docker-credential-}; checked before.
        @param host: the registry as people write it.
        @param file: the file that names the helper, for errors.
        @return: fires with L{None} if it has none.
        @raise HelperMissing: it is not installed.
        @raise CredentialsUnavailable: it fails.
        """
        return Deferred.fromCoroutine(self._get(name, host, file))

    def forget(self, server: str) -> None:
        """
        Forget the credentials of a registry.

        @param server: docker's name of it.
        """
        self._known = {key: found for key, found in self._known.items() if key[1] != server}

    async def _get(self, name: str, host: str, file: str) -> Credentials | None:
        now = self._reactor.seconds()
        key = (name, server_of(host))
        self._known = {k: known for k, known in self._known.items() if now < known[0]}
        if key in self._known:
            return self._known[key][1]
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = SingleFlight()
            waiting = flight.wait()
            work = Deferred.fromCoroutine(self._ask(name, host, file))
            flight.start(work, lambda: self._landed(key))
        else:
            waiting = flight.wait()
        with waiting_for(HELPER, f"docker-credential-{name}"):
            return await waiting

    def _landed(self, key: tuple[str, str]) -> None:
        del self._flights[key]

    async def _ask(self, name: str, host: str, file: str) -> Credentials | None:
        """
        Run a helper and read its answer.
        """
        program = f"docker-credential-{name}"
        server = server_of(host)
        path = shutil.which(
            program, path=(os.environ if self._environ is None else self._environ).get("PATH")
        )

        def fails(
            why: str, kind: type[CredentialsUnavailable] = CredentialsUnavailable
        ) -> CredentialsUnavailable:
            return kind(f"no credentials for {host}: {program}, which {file} names, {why}", host=host)

        if path is None:
            raise fails(f"is not in PATH; install it, or take its name out of {file}", HelperMissing)
        try:
            result = await self._run(path, program, server.encode())
        except CancelledError:
            raise
        except _HelperTimeout:
            raise fails(
                f"gave no answer within {self._limit:g} s; it may wait for its store to be unlocked: "
                f"try 'echo {server} | {program} get'"
            ) from None
        except _TooMuchOutput:
            raise fails(f"writes more than {MAX_OUTPUT} bytes") from None
        except OSError as e:
            raise fails(f"cannot be run: {e.strerror}") from e
        if result.status != 0:
            # Errors are on stdout, by the protocol, or on stderr.
            complaint = clean((result.stdout.strip() or result.stderr.strip()).decode("utf-8", "replace"))
            if complaint.startswith("{"):
                # Not an error message, and perhaps with a secret.
                complaint = ""
            if NOT_FOUND in complaint.lower():
                found = None
            else:
                raise fails(f"ended with {result.status}: {complaint or 'no message'}")
        else:
            found = parse_helper_answer(result.stdout, f"{program} ({file})")
            if found is None:
                raise fails("answered something else than Username and Secret in JSON")
        self._known[name, server] = (self._reactor.seconds() + LIFE, found)
        return found

    def _run(self, path: str, program: str, stdin: bytes) -> Deferred[HelperResult]:
        """
        Run a helper.  Its command line, which any user can see, has the action
        alone; the rest is on its stdin.
        """
        run = _Run(stdin)
        argv = [program, "get"]
        if self._descriptors is not None:
            argv = limited(self._descriptors, [path, "get"])
            path = argv[0]
        self._reactor.spawnProcess(run, path, argv, env=self._environ)
        timer = self._reactor.callLater(self._limit, run.give_up, _HelperTimeout())

        def ended(result: HelperResult | Failure) -> HelperResult | Failure:
            if timer.active():
                timer.cancel()
            return result

        return run.result.addBoth(ended)
