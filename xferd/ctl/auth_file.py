# -*- test-case-name: tests.ctl.test_auth_file -*-
"""
Docker's C{config.json}, to be written: its own form is kept, and all in it
that is not ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xferd.credentials import Credentials

HELPER_LIMIT: Final = 60.0
"""Seconds that a credential helper may take; it may ask its user something."""


class AuthFile:
    """
    One such file, which need not exist.

    @ivar path: where it is.
    """

    def __init__(self, path: str, environ: Mapping[str, str]) -> None:
        """
        @param environ: the environment of helpers.
        """
        self.path = path
        self._environ = environ

    def read(self) -> DockerConfig:
        """
        What it says.

        @raise ConfigError: it cannot be used.
        """
        return parse_docker_config(self._data(), self.path)

    def find(self, host: str, path: str) -> Credentials | None:
        """
        The credentials for a repository, as the daemon looks for its own:
        those of the narrowest namespace, those that the host's helper has,
        those of the host.

        @param path: the repository's, on the host.
        @raise ConfigError: the file cannot be used, or the helper fails.
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
                        f"{program}, which {self.path} names, answered something else than Username and "
                        "Secret in JSON"
                    )
        return config.auths.get(host) if found is None else found

    def store(self, host: str, username: str, password: str) -> str:
        """
        Keep credentials, in the helper that the file names for the host, or
        in the file.

        @return: where they are now, in words.
        @raise ConfigError: they cannot be kept; nothing was changed.
        """
        helper = self.read().helper(host)
        entry: dict[str, str] = {}
        if helper:
            answer = {"ServerURL": server_of(host), "Username": username, "Secret": password}
            self._run(helper, "store", json.dumps(answer))
            kept = f"docker-credential-{helper} keeps the password"
        else:
            entry["auth"] = b64encode(f"{username}:{password}".encode()).decode("ascii")
            kept = f"the password is in {self.path}"
        value = parse_object(self._data(), self.path)
        auths = value.get("auths") or {}
        key = next((key for key in auths if registry_of(key) == host), server_of(host))
        others = {k: v for k, v in auths.items() if k == key or registry_of(k) != host}
        self._write({**value, "auths": {**others, key: entry}})
        return kept

    def erase(self, host: str) -> bool:
        """
        Forget the credentials for a host, in the helper and in the file.

        @return: whether the file had any.
        @raise ConfigError: they cannot be forgotten.
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
        The file's bytes; none where there is no file.
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
        Put a new file in the place of the old one, for this user alone.
        """
        # A link stays one, as where the directory is kept under version control.
        path = os.path.realpath(self.path)
        text = json.dumps(value, indent="\t", ensure_ascii=False)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            # It is made with mode 0600.
            handle, scratch = tempfile.mkstemp(prefix=".config.json.", dir=os.path.dirname(path))
            try:
                with open(handle, "wb") as file:
                    file.write(text.encode("utf-8", "surrogatepass"))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(scratch, path)
            except BaseException:
                os.unlink(scratch)
                raise
        except OSError as e:
            raise ConfigError(f"{self.path} cannot be written: {e.strerror}") from e

    def _run(self, helper: str, action: str, text: str) -> bytes | None:
        """
        Have a helper do something.  All but the action is on its stdin, so
        that no list of processes has it.

        @return: what it wrote, or L{None} where it has no such credentials.
        @raise ConfigError: it does not.
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
                f"{name} is not in PATH; install it, or take its name out of {self.path}"
            ) from None
        except subprocess.TimeoutExpired:
            # Without its cause, which has the password.
            raise ConfigError(f"{name} did not end within {HELPER_LIMIT:g} s") from None
        except OSError as e:
            raise ConfigError(f"{name} cannot be run: {e.strerror}") from e
        if ended.returncode != 0:
            # They complain on stdout, by the protocol, or on stderr.
            said = clean((ended.stdout.strip() or ended.stderr.strip()).decode("utf-8", "replace")[:200])
            if action != "store" and NOT_FOUND in said.lower():
                return None
            if said.startswith("{"):
                # No complaint, but what may contain a secret.
                said = ""
            raise ConfigError(f"{name} ended with {ended.returncode}: {said or 'it says nothing'}")
        return ended.stdout
