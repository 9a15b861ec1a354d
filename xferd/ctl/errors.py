# -*- test-case-name: tests.ctl.test_client -*-
"""
Errors that end a command.  Their text is printed on stderr as it is::

    ClientError
      UsageError      the arguments are not those of a command
        BadAddress    the daemon's address cannot be parsed
      NoDaemon        no daemon listens there, or the connection broke
      ArchiveLost     the daemon was restarted while it received an archive
      NotXferd        the server there does not speak xferd's API
      Refused         the daemon refused the request
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClientError(Exception):
    """
    A command failed; the text is the reason that its user reads.
    """


class UsageError(ClientError):
    """
    The arguments are not those of a command.
    """


class BadAddress(UsageError):
    """
    The address that should name the daemon cannot be parsed.
    """


class NoDaemon(ClientError):
    """
    No daemon listens at any address, or the connection to it broke.
    """


class ArchiveLost(ClientError):
    """
    The daemon was restarted while it received an archive, and needs it from its
    beginning.
    """


class NotXferd(ClientError):
    """
    The server at the address does not speak xferd's API.
    """


class Refused(ClientError):
    """
    The daemon answered with an error.

    @ivar status: the HTTP status.
    @ivar code: the daemon's error code, for example C{NAME_INVALID}.
    @ivar detail: further fields of the error.
    """

    def __init__(self, status: int, code: str, message: str, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{message} ({code})" if code else message)
        self.status = status
        self.code = code
        self.detail = {} if detail is None else detail
