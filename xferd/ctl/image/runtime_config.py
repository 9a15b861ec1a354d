# -*- test-case-name: tests.ctl.image.test_runtime_config -*-
"""
The C{config.json} of a runtime bundle, from an image's config (OCI image-spec,
"Conversion to OCI Runtime Configuration"; runtime-spec v1.0.2).

Settings that the image leaves open are docker's, with two exceptions: there is
no network, since none is set up, and a process gains no rights by running a
setuid program (C{noNewPrivileges}).

Pure.  An image's config is untrusted input.
"""

from __future__ import annotations

import re
from posixpath import normpath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.ctl.errors import ClientError
from xferd.ctl.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from xferd.ctl.image.users import User

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CAPABILITIES: Final = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""Root's capabilities in a container of docker's."""

_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_COMMANDS_TO_RUNTIMES: Final = (
    "dev.gvisor.",
    "io.katacontainers.",
    "org.criu.",
    "org.systemd.property.",
    "run.oci.",
)
"""
Prefixes of annotations that make gVisor, Kata, runc and crun act on the host:
write files, set systemd properties.  An image must not set them.
"""

_IMPLIED: Final = {
    "os": "os",
    "architecture": "architecture",
    "variant": "variant",
    "os.version": "os.version",
    "os.features": "os.features",
    "author": "author",
    "created": "created",
}
_PREFIX: Final = "org.opencontainers.image."


class BadConfig(ClientError):
    """
    The image's config cannot be converted.
    """


class Volume(NamedTuple):
    """
    A volume of the image: a directory for data.

    @ivar path: its absolute path.
    @ivar owner: its user and group ID in the image; L{None} if it does not exist.
    @ivar mode: its permission bits.
    """

    path: str
    owner: tuple[int, int] | None = None
    mode: int = 0o755


class Execution(NamedTuple):
    """
    The checked part of an image's config that concerns running it.

    @ivar args: the command and its arguments; not empty.
    @ivar env: the environment, C{NAME=value}.
    @ivar user: the image's C{User}; may be empty.
    @ivar volumes: absolute paths, sorted.
    @ivar annotations: the labels, and the annotations that the specification
        derives from the config.
    @ivar notes: sentences about settings that were left out.
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    volumes: tuple[str, ...]
    annotations: Mapping[str, str]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, image: Mapping[str, Any], args: Sequence[str] = ()) -> Execution:
        """
        Check an image's config.

        @param image: the parsed config.
        @param args: arguments that replace the image's C{Cmd}.
        @raise BadConfig: it is not for Linux, names no command, or violates
            the specification.
        """
        system = _text(image, "os") or "linux"
        if system != "linux":
            raise BadConfig(f"the image is for {clean(system)}, but a bundle must be for linux")
        config = image.get("config")
        if config is None:
            config = {}
        if not isinstance(config, dict):
            raise BadConfig("the image's config is not an object")
        command = [*_list(config, "Entrypoint"), *(args or _list(config, "Cmd"))]
        if not command or not command[0]:
            raise BadConfig("the image names no command; name one after '--'")
        annotations, left_out = _annotations(image, config)
        volumes, not_mounted = _volumes(config)
        return cls(
            tuple(_plain(command, "an argument of the command")),
            tuple(_env(config)),
            normpath("/" + (_text(config, "WorkingDir") or "")[:4096].lstrip("/")),
            _text(config, "User") or "",
            volumes,
            annotations,
            (*left_out, *not_mounted),
        )


def runtime_config(
    execution: Execution,
    user: User,
    volumes: Sequence[Volume],
    *,
    hostname: str,
    read_only: bool = False,
    rootless: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """
    Make a bundle's config, for a root file system in C{rootfs}.

    @param volumes: the image's volumes, as found in the root file system.
    @param read_only: whether the root file system is read-only.
    @param rootless: the user and group ID of the user who runs it, if not
        root.  They are mapped to root inside, and no others are.
    """
    env = list(execution.env)
    names = {variable.partition("=")[0] for variable in env}
    env += [f"PATH={PATH}"] if "PATH" not in names else []
    env += [f"HOME={user.home}"] if user.home and "HOME" not in names else []
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": user.uid, "gid": user.gid},
        "args": list(execution.args),
        "env": env,
        "cwd": execution.cwd,
        "capabilities": {
            "bounding": list(_CAPABILITIES),
            "effective": list(_CAPABILITIES) if user.uid == 0 else [],
            "permitted": list(_CAPABILITIES) if user.uid == 0 else [],
        },
        "noNewPrivileges": True,
    }
    if rootless is None:
        process["user"]["additionalGids"] = list(user.groups)
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": read_only},
        "hostname": re.sub(r"[^A-Za-z0-9-]+", "-", hostname).strip("-")[:63] or "container",
        "mounts": [*_mounts(rootless), *(_mount(volume, rootless) for volume in volumes)],
        "annotations": dict(execution.annotations),
        "linux": _linux(rootless),
    }


def _linux(rootless: tuple[int, int] | None) -> dict[str, Any]:
    namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    linux: dict[str, Any] = {"maskedPaths": list(_MASKED), "readonlyPaths": list(_READ_ONLY)}
    if rootless is None:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    else:
        namespaces.append("user")
        for kind, number in zip(("uidMappings", "gidMappings"), rootless, strict=True):
            linux[kind] = [{"containerID": 0, "hostID": number, "size": 1}]
    linux["namespaces"] = [{"type": kind} for kind in namespaces]
    return linux


def _mounts(rootless: tuple[int, int] | None) -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    # Group 5 is tty; a rootless container has one group only.
    terminals = [] if rootless else ["gid=5"]

    def mount(destination: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
        return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}

    return [
        mount("/proc", "proc", *quiet),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount(
            "/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *terminals
        ),
        mount("/dev/shm", "tmpfs", *quiet, "mode=1777", "size=65536k", source="shm"),  # noqa: S108 - inside
        mount("/dev/mqueue", "mqueue", *quiet),
        mount("/sys", "sysfs", *quiet, "ro"),
        mount("/sys/fs/cgroup", "cgroup", *quiet, "relatime", "ro"),
    ]


def _mount(volume: Volume, rootless: tuple[int, int] | None) -> dict[str, Any]:
    """
    The mount of a volume: a tmpfs with a copy of the image's content
    (image-spec: "application data is not written to the container's root
    filesystem").
    """
    options = ["rw", "nosuid", "nodev", f"mode={volume.mode:o}"]
    if volume.owner is not None:
        options += [] if rootless else [f"uid={volume.owner[0]}", f"gid={volume.owner[1]}"]
        # An option of runc and crun: copy the directory's content.
        options.append("tmpcopyup")
    return {"destination": volume.path, "type": "tmpfs", "source": "tmpfs", "options": options}


# ------------------------------------------------------------- reading a config


def _annotations(image: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """
    The annotations, and notes on those left out.  Labels override derived
    annotations.
    """
    derived: dict[str, str] = {}
    for key, name in _IMPLIED.items():
        value = ",".join(_list(image, key)) if key == "os.features" else _text(image, key)
        if value:
            derived[_PREFIX + name] = value
    signal = _text(config, "StopSignal")
    if signal:
        derived[f"{_PREFIX}stopSignal"] = signal
    ports = sorted(_keys(config, "ExposedPorts"))
    if ports:
        derived[f"{_PREFIX}exposedPorts"] = ",".join(ports)
    labels = _object(config, "Labels")
    notes = []
    for key, value in labels.items():
        if not isinstance(value, str) or not key:
            raise BadConfig(f"the image's label {clean(key)!r} is not text")
        if key.startswith(_COMMANDS_TO_RUNTIMES):
            notes.append(f"the label {clean(key)} is left out: it would control the runtime on the host")
        else:
            derived[key] = value
    return derived, notes


def _volumes(config: Mapping[str, Any]) -> tuple[tuple[str, ...], list[str]]:
    """
    The volumes, and notes on those left out.
    """
    volumes, notes = [], []
    for path in sorted(_keys(config, "Volumes")):
        place = normpath("/" + path.lstrip("/"))
        if place == "/" or place.startswith(("/proc/", "/sys/")) or place in ("/proc", "/sys", "/dev"):
            notes.append(f"the volume {clean(path)} is left out: nothing can be mounted there")
        elif place not in volumes:
            volumes.append(place)
    _plain(volumes, "a volume")
    return tuple(volumes), notes


def _env(config: Mapping[str, Any]) -> list[str]:
    env = _plain(_list(config, "Env"), "a variable of the environment")
    for variable in env:
        if not variable.partition("=")[1] or variable.startswith("="):
            raise BadConfig(f"the image's environment has {clean(variable)!r}, which is not NAME=value")
    return env


def _plain(texts: list[str], what: str) -> list[str]:
    """
    Check that texts can be passed to C{execve}.
    """
    for text in texts:
        if "\0" in text or not _is_unicode(text):
            raise BadConfig(f"{what} cannot be passed to a program: {text!a}")
    return texts


def _is_unicode(text: str) -> bool:
    """
    Whether a text can be encoded as UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Mapping[str, Any], key: str) -> str | None:
    """
    A member that is text; null counts as absent.
    """
    text = value.get(key)
    if text is not None and not isinstance(text, str):
        raise BadConfig(f"{key} in the image's config is not text")
    return text


def _list(value: Mapping[str, Any], key: str) -> list[str]:
    """
    A member that is a list of texts; like docker, accept a single text.
    """
    listed = value.get(key)
    if listed is None:
        return []
    if isinstance(listed, str):
        return [listed]
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise BadConfig(f"{key} in the image's config is not a list of texts")
    return listed


def _object(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadConfig(f"{key} in the image's config is not an object")
    return found


def _keys(value: Mapping[str, Any], key: str) -> list[str]:
    return list(_object(value, key))
