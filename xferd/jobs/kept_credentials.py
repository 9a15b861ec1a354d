# -*- test-case-name: tests.jobs.test_kept_credentials -*-
"""
The credentials that clients gave with jobs which outlive the daemon: one file for each
job, in memory.

The files are on a tmpfs only, so that no disk has them and a reboot removes them; each
has mode 0600, in a directory with mode 0700.  Without a tmpfs nothing is kept, and after
a restart the jobs wait for their clients.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from twisted.logger import Logger

from xferd.credentials import Credentials

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_JOB: Final = re.compile(r"[0-9a-f]{1,64}")


class KeptCredentials:
    """
    The credentials of the unfinished jobs of one data directory.
    """

    _log = Logger()

    def __init__(self, directory: str | None) -> None:
        """
        @param directory: is created when it is needed; L{None} keeps nothing.
        """
        self._directory = directory

    def keep(self, job_id: str, credentials: Mapping[str, Credentials]) -> None:
        """
        Keep the credentials of a job, by registry host, in place of earlier ones.  A
        failure is logged.
        """
        directory = self._directory
        if directory is None:
            return
        try:
            _claim(directory)
            path = os.path.join(directory, job_id)
            # Renamed, so that a crash leaves no part of it.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(f"{path}.new", flags, 0o600), "w", encoding="utf-8") as file:
                json.dump({host: each.reveal() for host, each in credentials.items()}, file)
            os.rename(f"{path}.new", path)
        except OSError as e:
            self._log.warn(
                "the credentials of job {id} will not outlast a restart: {why}", id=job_id, why=e.strerror
            )

    def read(self, job_id: str) -> dict[str, Credentials]:
        """
        The credentials of a job, by registry host; none if they are not there.
        """
        if self._directory is None:
            return {}
        try:
            _check(self._directory)
            with open(os.path.join(self._directory, job_id), encoding="utf-8") as file:
                return {host: Credentials.revealed(values) for host, values in json.load(file).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            self._log.warn("the credentials of job {id} cannot be read", id=job_id)
            return {}

    def drop(self, job_id: str) -> None:
        """
        Remove the credentials of a job.
        """
        if self._directory is not None:
            with suppress(OSError):
                os.unlink(os.path.join(self._directory, job_id))

    def keep_only(self, job_ids: Collection[str]) -> None:
        """
        Remove the credentials of all other jobs.
        """
        if self._directory is None:
            return
        with suppress(OSError):
            _check(self._directory)
            for name in os.listdir(self._directory):
                if name not in job_ids and _JOB.fullmatch(name.removesuffix(".new")):
                    self.drop(name)


def memory_directory(
    directories: Collection[str], name: str, mounts: str = "/proc/self/mountinfo"
) -> str | None:
    """
    Choose the directory for L{KeptCredentials}.

    @param directories: candidates in which to create it, the best one first.
    @param name: its name.
    @param mounts: the list of mounts, in the format of C{proc_pid_mountinfo(5)}.
    @return: a path on a tmpfs, or L{None} where no candidate is on one.
    """
    for directory in directories:
        if _file_system(os.path.realpath(directory), mounts) in _IN_MEMORY:
            return os.path.join(directory, name)
    return None


def _file_system(path: str, mounts: str) -> str:
    """
    The type of the file system of a path; empty if that is unknown.
    """
    best, kind = "", ""
    with suppress(OSError, ValueError, IndexError), open(mounts, encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            if len(point) >= len(best) and (path == point or path.startswith(point.rstrip("/") + "/")):
                best, kind = point, fields[fields.index("-") + 1]
    return kind


def _claim(directory: str) -> None:
    """
    Create the directory.

    @raise OSError: it is another user's.
    """
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    _check(directory)


def _check(directory: str) -> None:
    """
    Check that the directory belongs to this user alone.

    @raise OSError: it does not.
    """
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(1, f"{directory} must be a directory of this user's with mode 0700")
