# -*- test-case-name: tests.ctl.test_auth_file -*-
"""
Reading and writing docker's C{config.json}.  A change keeps its format and all
other content.
"""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.text import clean
from xferd.docker_config import (
    MAX_CONFIG,
    NOT_FOUND,
    DockerConfig,
    parse_docker_config,
    parse_helper_answer,
    parse_object,
    registry_of,
    server_of,
)
from xferd.errors import ConfigError
from xferd.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xferd.credentials import Credentials

HELPER_LIMIT: Final = 60.0
"""Seconds that a credential helper may take; it may prompt its user."""


class AuthFile:
    """
    One C{config.json}, which need not exist.

    @ivar path: its path.
    """

    def __init__(self, path: str, environ: Mapping[str, str]) -> None:
        """
        @param environ: the environment of helpers.
        """
        self.path = path
        self._environ = environ

    def read(self) -> DockerConfig:
        """
        Read the file.

        @raise ConfigError: it cannot be read or parsed.
        """
        return parse_docker_config(self._data(), self.path)

    def find(self, host: str, path: str) -> Credentials | None:
        """
        The credentials for a repository, in the daemon's own order: those of
        the longest matching namespace, those of the host's helper, those of
        the host.

        @param path: the repository's path on the host.
        @raise ConfigError: the file cannot be read, or the helper fails.
        """
        config = self.read()
        found = config.below(host, path)
        helper = config.helper(host)
        if found is None and helper:
            program = f"docker-credential-{helper}"
            answer = self._run(helper, "get", server_of(host))
            if answer is not None:
                found = parse_helper_answer(answer, f"{program} ({self.path})")
                if found is None:
                    raise ConfigError(
                        f"{program}, which {self.path} names, did not answer with Username and Secret in JSON"
                    )
        return config.auths.get(host) if found is None else found

    def store(self, host: str, username: str, password: str) -> str:
        """
        Store credentials, in the helper that the file names for the host, or
        in the file.

        @return: their place, in words.
        @raise ConfigError: they cannot be stored; nothing was changed.
        """
        helper = self.read().helper(host)
        entry: dict[str, str] = {}
        if helper:
            answer = {"ServerURL": server_of(host), "Username": username, "Secret": password}
            self._run(helper, "store", json.dumps(answer))
            place = f"docker-credential-{helper} stores the password"
        else:
            entry["auth"] = b64encode(f"{username}:{password}".encode()).decode("ascii")
            place = f"{self.path} stores the password"
        value = parse_object(self._data(), self.path)
        auths = value.get("auths") or {}
        key = next((key for key in auths if registry_of(key) == host), server_of(host))
        others = {k: v for k, v in auths.items() if k == key or registry_of(k) != host}
        self._write({**value, "auths": {**others, key: entry}})
        return place

    def erase(self, host: str) -> bool:
        """
        Remove the credentials for a host, from the helper and the file.

        @return: whether there were any.
        @raise ConfigError: they cannot be removed.
        """
        helper = self.read().helper(host)
        value = parse_object(self._data(), self.path)
        auths = value.get("auths") or {}
        others = {key: entry for key, entry in auths.items() if registry_of(key) != host}
        found = len(others) < len(auths)
        if helper and (found or registry_of(host) in self.read().helpers):
            self._run(helper, "erase", server_of(host))
            found = True
        if len(others) < len(auths):
            self._write({**value, "auths": others})
        return found

    def _data(self) -> bytes:
        """
        The file's bytes; empty if it does not exist.
        """
        try:
            with open(self.path, "rb") as file:
                return file.read(MAX_CONFIG + 1)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as e:
            raise ConfigError(f"{self.path} cannot be read: {e.strerror}") from e

    def _write(self, value: dict[str, Any]) -> None:
        """
        Replace the file, with mode 0600.
        """
        # A symbolic link stays one: some users keep the file under version control.
        path = os.path.realpath(self.path)
        text = json.dumps(value, indent="\t", ensure_ascii=False)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            write_whole(path, text.encode("utf-8", "surrogatepass"))
        except OSError as e:
            raise ConfigError(f"{self.path} cannot be written: {e.strerror}") from e

    def _run(self, helper: str, action: str, text: str) -> bytes | None:
        """
        Run a helper.  Secrets go to its stdin, where no list of processes
        shows them.

        @return: its output; L{None} if it has no such credentials.
        @raise ConfigError: it fails.
        """
        program = f"docker-credential-{helper}"
        name = f"{program}, which {self.path} names,"
        try:
            ended = subprocess.run(  # noqa: S603 - the user's own file names it
                [program, action],
                input=text.encode("utf-8"),
                capture_output=True,
                check=False,
                env=dict(self._environ),
                timeout=HELPER_LIMIT,
            )
        except FileNotFoundError:
            raise ConfigError(
                f"{name} is not in PATH; install it, or remove its name from {self.path}"
            ) from None
        except subprocess.TimeoutExpired:
            # Without its cause, which holds the password.
            raise ConfigError(f"{name} did not end within {HELPER_LIMIT:g} s") from None
        except OSError as e:
            raise ConfigError(f"{name} cannot be run: {e.strerror}") from e
        if ended.returncode != 0:
            # The protocol puts errors on stdout; some helpers use stderr.
            message = clean((ended.stdout.strip() or ended.stderr.strip()).decode("utf-8", "replace")[:200])
            if action != "store" and NOT_FOUND in message.lower():
                return None
            if message.startswith("{"):
                # Not an error, and it may contain a secret.
                message = ""
            raise ConfigError(f"{name} failed with status {ended.returncode}: {message or 'no message'}")
        return ended.stdout
