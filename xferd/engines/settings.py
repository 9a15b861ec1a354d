# -*- test-case-name: tests.engines.test_settings -*-
"""
The settings of the engines that are served.
"""

from __future__ import annotations

import os.path
import re
from typing import Final

from attrs import Attribute, field, frozen

NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
"""The name of an engine.  Paths and records contain it, so it never changes."""

DEFAULT_ROOT: Final = "/var/lib/containers/storage"
"""The storage of root's podman, buildah and skopeo and of CRI-O, unless C{storage.conf} names another."""

MAX_SOCKET: Final = 107
"""The most bytes of a unix socket's path: unix(7), sun_path."""


def _check_path(_: object, attribute: Attribute[str], value: str) -> None:
    if value and not os.path.isabs(value):
        raise ValueError(f"{attribute.name!r} must be an absolute path, not {value!r}")


@frozen
class ContainerdSettings:
    """
    A containerd that uses xferd as a snapshotter.

    @ivar socket: the unix socket to serve it on; the empty string selects
        C{engines/NAME.sock} beside the socket of the API.
    @ivar address: containerd's own socket.
    @ivar cri: whether to forward CRI's C{ImageService} to it, for the credentials of
        kubelet's pulls.
    """

    socket: str = field(default="", validator=_check_path)
    address: str = field(default="/run/containerd/containerd.sock", validator=_check_path)
    cri: bool = False

    @socket.validator
    @address.validator
    def _check_length(self, attribute: Attribute[str], value: str) -> None:
        if len(os.fsencode(value)) > MAX_SOCKET:
            raise ValueError(
                f"{attribute.name!r} must be a path of at most {MAX_SOCKET} bytes, not {value!r}"
            )

    @address.validator
    def _check_address(self, _: Attribute[str], value: str) -> None:
        if not value:
            raise ValueError("'address' must be the path of containerd's socket")


@frozen
class ContainersStorageSettings:
    """
    The view of the store for podman, CRI-O, buildah and skopeo.

    @ivar path: the directory of the view; the empty string for none.
    @ivar roots: the storages of the engines that read it.  Layers stay that these name.
    @ivar wait_for: the users whose engines get a manifest only once its layers are in the
        view: names or numbers.
    @ivar patience: seconds for which such a manifest waits.
    """

    path: str = field(default="", validator=_check_path)
    roots: tuple[str, ...] = field(default=(DEFAULT_ROOT,))
    wait_for: tuple[str, ...] = ()
    patience: float = field(default=600.0)

    @patience.validator
    def _check_patience(self, _: Attribute[float], value: float) -> None:
        if not value > 0:
            raise ValueError(f"'patience' must be a positive number of seconds, not {value:g}")

    @roots.validator
    def _check_roots(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for root in value:
            if not os.path.isabs(root):
                raise ValueError(f"'roots' must be absolute paths, not {root!r}")
            if self.path and os.path.normpath(root) == os.path.normpath(self.path):
                raise ValueError(f"'path' must be a directory of its own, not one of 'roots': {root!r}")


@frozen
class EnginesSettings:
    """
    The engines that run images from the store.

    @ivar containerd: those that use the snapshotter, by name.
    @ivar containers_storage: the view for the others.
    """

    containerd: dict[str, ContainerdSettings] = field(factory=dict)
    containers_storage: ContainersStorageSettings = field(
        factory=ContainersStorageSettings, metadata={"key": "containers-storage"}
    )

    @containerd.validator
    def _check_containerd(
        self, _: Attribute[dict[str, ContainerdSettings]], value: dict[str, ContainerdSettings]
    ) -> None:
        for name in value:
            if NAME.fullmatch(name) is None:
                raise ValueError(
                    "'containerd' must be by names of lower-case letters, digits and '-', "
                    f"at most 32, not {name!r}"
                )
        sockets = [each.socket for each in value.values() if each.socket]
        for socket in sockets:
            if sockets.count(socket) > 1:
                raise ValueError(f"'containerd' must have a socket for each engine: two have {socket!r}")


def socket_of(name: str, settings: ContainerdSettings, directory: str) -> str:
    """
    The unix socket of an engine.

    @param directory: the runtime directory, which has the socket of the API.
    """
    return settings.socket or os.path.join(directory, "engines", f"{name}.sock")
