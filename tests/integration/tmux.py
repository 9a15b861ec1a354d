"""
Terminals of a size, with programs in them: tmux.
"""

from __future__ import annotations

import shlex

from twisted.internet.interfaces import IReactorProcess

from tests.integration.peers import run
from tests.integration.programs import XFERCTL, environment


class Tmux:
    """
    A server of tmux, with a terminal for each of its windows.

    Life cycle: made; L{open}ed some windows; L{quit}.
    """

    def __init__(
        self, reactor: IReactorProcess, directory: str, *, width: int = 200, height: int = 30
    ) -> None:
        """
        @param directory: where its socket is.
        @param width: the columns of each terminal.
        @param height: the lines of each terminal.
        """
        self._reactor = reactor
        self._command = ["tmux", "-S", f"{directory}/tmux", "-f", "/dev/null"]
        self._size = ["-x", str(width), "-y", str(height)]
        self._windows = 0

    async def open(self, host: str, *arguments: str, into: str = "") -> str:
        """
        Run xferctl in a new terminal, which stays when it has ended.

        @param host: the daemon's address.
        @param into: a file for its standard output, through a pipe; by default it is the
            terminal.
        @return: the name of the window, for L{read}.
        """
        self._windows += 1
        name = f"w{self._windows}"
        given = {key: environment()[key] for key in ("PYTHONPATH", "DOCKER_CONFIG")}
        words = ["env", *(f"{key}={value}" for key, value in given.items())]
        line = shlex.join([*words, *XFERCTL, "--host", host, *arguments])
        if into:
            line += f" | cat > {shlex.quote(into)}"
        keep = ["set-option", "-w", "-t", f"={name}:", "remain-on-exit", "on"]
        # A line about the end would scroll the first one away.
        plain = ["set-option", "-w", "-t", f"={name}:", "remain-on-exit-format", ""]
        await self._run("new-session", "-d", "-s", name, *self._size, line, ";", *keep, ";", *plain)
        return name

    async def read(self, window: str) -> str:
        """
        What a terminal shows.
        """
        return await self._run("capture-pane", "-p", "-t", f"={window}:")

    async def press(self, window: str, *keys: str) -> None:
        """
        Press keys: characters, or names as C{Down} and C{C-c}.
        """
        await self._run("send-keys", "-t", f"={window}:", *keys)

    async def quit(self) -> None:
        """
        End the server and what runs in its terminals.
        """
        if self._windows:
            await self._run("kill-server")

    async def _run(self, *arguments: str) -> str:
        return await run(self._reactor, [*self._command, *arguments])
