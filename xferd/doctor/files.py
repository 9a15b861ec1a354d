# -*- test-case-name: tests.doctor.test_doctor -*-
"""
Checks of files: owner, mode and syntax.
"""

from __future__ import annotations

import grp
import os
import shutil
import stat
from collections.abc import Iterator
from typing import Final

from xferd.docker_config import MAX_CONFIG, parse_docker_config
from xferd.doctor.problem import Problem, Running
from xferd.errors import ConfigError, StoreError
from xferd.store.disk.permissions import check_owner, entries
from xferd.store.paths import Paths
from xferd.unix_socket import GROUP

_SHOWN: Final = 3
"""Names of damaged content that one problem lists."""


def check_data_directory(running: Running) -> Iterator[Problem]:
    """
    Check owner and modes of the data directory, and whether damaged content is kept there.
    """
    path = running.config.data_dir
    if not running.config.store.trust_data_dir:
        try:
            check_owner(path)
        except StoreError as e:
            message, _, remedy = str(e).rpartition(": ")
            yield Problem(message, remedy)
        except OSError as e:
            yield Problem(f"cannot read the data directory {path}: {e.strerror}", f"restore {path}")
            return
    for each in entries(Paths(path)):
        yield from check_access(each, 0o077, missing=False)
    quarantine = Paths(path).quarantine
    try:
        kept = sorted(os.listdir(quarantine))
    except OSError:
        kept = []
    if kept:
        shown = ", ".join(kept[:_SHOWN]) + (f" and {len(kept) - _SHOWN} more" if kept[_SHOWN:] else "")
        yield Problem(
            f"{quarantine} has damaged content that could not be replaced: {shown}",
            f"pull the images again, and remove the files in {quarantine} when nothing needs them",
        )


def check_sockets(running: Running) -> Iterator[Problem]:
    """
    Check which users can connect to the unix sockets, or replace them.
    """
    for path in running.sockets:
        directory = os.path.dirname(path) or "."
        yield from check_access(directory, 0o022)
        try:
            found = os.lstat(path)
        except OSError as e:
            yield Problem(f"cannot reach the socket {path}: {e.strerror}", "restart xferd")
            continue
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISSOCK(found.st_mode):
            yield Problem(f"{path} is not a socket", "remove it, and restart xferd")
        elif found.st_uid not in (0, os.geteuid()):
            yield Problem(f"the socket {path} belongs to user {found.st_uid}", "restart xferd")
        elif mode & stat.S_IWOTH:
            yield Problem(
                f"every user can connect to {path}, and has all rights: its mode is {mode:o}",
                f"chmod o= {path}",
            )
        elif mode & stat.S_IWGRP and found.st_gid not in (0, _group()):
            yield Problem(
                f"group {found.st_gid} can connect to {path}, and has all rights: its mode is {mode:o}",
                f"chmod g= {path}, or chgrp {GROUP} {path}",
            )


def _group() -> int:
    """
    The ID of the group L{GROUP}, or -1 if it does not exist.
    """
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return -1


def check_settings(running: Running) -> Iterator[Problem]:
    """
    Check the configuration file: access, syntax, and changes since the start.
    """
    if not running.config_file or running.reread is None:
        return
    secret = any("@" in url for url in (running.config.proxy.https, running.config.proxy.http))
    yield from check_access(running.config_file, 0o077 if secret else 0o022)
    try:
        config = running.reread()
    except ConfigError as e:
        yield Problem(str(e), "correct the file: xferd cannot restart with it")
        return
    late = running.config.needing_restart(config)
    if late:
        yield Problem(
            f"{running.config_file} has changed since xferd started: {', '.join(late)}", "restart xferd"
        )


def check_credentials(running: Running) -> Iterator[Problem]:
    """
    Check the files with the credentials of registries, and their helpers.
    """
    for path in running.config.auth_files:
        yield from check_access(path, 0o077, missing=path == running.config.auth_file)
        try:
            with open(path, "rb") as file:
                config = parse_docker_config(file.read(MAX_CONFIG + 1), path)
        except FileNotFoundError:
            continue
        except OSError as e:
            yield Problem(
                f"cannot read {path}: {e.strerror}", f"give user {os.geteuid()} read access to {path}"
            )
            continue
        except ConfigError as e:
            yield Problem(str(e), f"correct {path}, or remove it and log in again")
            continue
        for host, why in config.broken.items():
            yield Problem(why, f"xferctl login {host.partition('/')[0]}")
        for name in sorted({config.store, *config.helpers.values()} - {""}):
            if shutil.which(f"docker-credential-{name}") is None:
                yield Problem(
                    f"{path} names the helper docker-credential-{name}, which is not in PATH",
                    f"install docker-credential-{name}, or remove it from {path}",
                )


def check_tokens(running: Running) -> Iterator[Problem]:
    """
    Check the file with the tokens of the API.
    """
    path = running.config.token_file or running.config.own_token_file
    yield from check_access(path, 0o077)
    if running.config.token_file:
        try:
            running.config.read_tokens()
        except ConfigError as e:
            yield Problem(str(e), f"write a token to {path}: xferd cannot restart without one")


def check_access(path: str, forbidden: int, *, missing: bool = True) -> Iterator[Problem]:
    """
    Check owner and mode of a file or directory.

    @param forbidden: the bits that its mode must not have.
    @param missing: whether its absence is a problem.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if missing:
            yield Problem(f"{path} is missing", "restart xferd, which creates its own files")
        return
    except OSError as e:
        yield Problem(f"cannot access {path}: {e.strerror}", f"give user {os.geteuid()} access to {path}")
        return
    if found.st_uid not in (0, os.geteuid()):
        yield Problem(
            f"{path} belongs to user {found.st_uid}, who can change it", f"chown {os.geteuid()} {path}"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden and not (forbidden == 0o022 and mode & stat.S_ISVTX):
        verb = "read" if forbidden & 0o044 else "change"
        letters = "" if forbidden & 0o044 else "-w"
        change = f"go{letters or '='}"
        yield Problem(f"other users can {verb} {path}: its mode is {mode:o}", f"chmod {change} {path}")
