# -*- test-case-name: tests.ctl.image.test_runtime_config -*-
"""
From an image's config to a runtime's: the C{config.json} of a bundle (OCI
image-spec, "Conversion to OCI Runtime Configuration"; runtime-spec v1.0.2).

What the image does not say is set to what people know from docker, but for
two things: there is no network, since nobody has set one up, and a process
cannot gain rights by running a setuid program (C{noNewPrivileges}).

Pure.  What an image says is hostile until checked.
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
"""What docker leaves to root in a container."""

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
Annotations by which gVisor, Kata, runc and crun are told what to do on the
host: write files, set properties of systemd's.  An image must not.
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
    The image's config makes no runtime's.
    """


class Volume(NamedTuple):
    """
    A directory of the image's that is to hold data.

    @ivar path: absolute.
    @ivar owner: user and group that it has in the image, or L{None} if it is
        not there.
    @ivar mode: its permission bits.
    """

    path: str
    owner: tuple[int, int] | None = None
    mode: int = 0o755


class Execution(NamedTuple):
    """
    What an image's config says of running it, checked.

    @ivar args: the command and its arguments; there is one.
    @ivar env: C{NAME=value}.
    @ivar user: as the image writes it; may be empty.
    @ivar volumes: absolute paths, in order.
    @ivar annotations: the labels, and what the specification derives.
    @ivar notes: what was left out, in a sentence each.
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
        Read an image's config.

        @param image: the parsed config.
        @param args: arguments in place of the image's C{Cmd}.
        @raise BadConfig: it is not for Linux, names no command, or breaks its
            specification.
        """
        system = _text(image, "os") or "linux"
        if system != "linux":
            raise BadConfig(f"the image is for {clean(system)}; a bundle is for linux only")
        config = image.get("config")
        if config is None:
            config = {}
        if not isinstance(config, dict):
            raise BadConfig("the image's config is not an object")
        command = [*_list(config, "Entrypoint"), *(args or _list(config, "Cmd"))]
        if not command or not command[0]:
            raise BadConfig("the image names no command to run; name one after '--'")
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

    @param volumes: what the image's volumes are in that.
    @param read_only: whether the root file system cannot be written to.
    @param rootless: user and group of who is to run it, if that is not root:
        they are root inside, and nobody else is there.
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
    """
    What is Linux's own in a bundle's config.
    """
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
    """
    What every container has mounted.
    """
    quiet = ["nosuid", "noexec", "nodev"]
    # Group 5 is tty; with one group only there is none.
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
    A volume: memory, with what the image has there to begin with
    (image-spec: "application data is not written to the container's root
    filesystem").
    """
    options = ["rw", "nosuid", "nodev", f"mode={volume.mode:o}"]
    if volume.owner is not None:
        options += [] if rootless else [f"uid={volume.owner[0]}", f"gid={volume.owner[1]}"]
        # Of runc's and crun's own; what is not there needs no copy.
        options.append("tmpcopyup")
    return {"destination": volume.path, "type": "tmpfs", "source": "tmpfs", "options": options}


# ------------------------------------------------------------- reading a config


def _annotations(image: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """
    The annotations, and what was left out.  Labels come before what the
    specification derives.
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
            notes.append(f"the label {clean(key)} is left out: it would tell the runtime what to do")
        else:
            derived[key] = value
    return derived, notes


def _volumes(config: Mapping[str, Any]) -> tuple[tuple[str, ...], list[str]]:
    """
    The volumes, and what cannot be one.
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
    """
    The environment.
    """
    env = _plain(_list(config, "Env"), "a variable of the environment")
    for variable in env:
        if not variable.partition("=")[1] or variable.startswith("="):
            raise BadConfig(f"the image's environment has {clean(variable)!r}, which is no NAME=value")
    return env


def _plain(texts: list[str], what: str) -> list[str]:
    """
    Texts that a kernel can take.
    """
    for text in texts:
        if "\0" in text or not _is_unicode(text):
            raise BadConfig(f"{what} cannot be passed to a program: {text!a}")
    return texts


def _is_unicode(text: str) -> bool:
    """
    Whether a text has a form in UTF-8, as every JSON document must.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Mapping[str, Any], key: str) -> str | None:
    """
    A text; null is the same as absent, as everywhere in a config.
    """
    text = value.get(key)
    if text is not None and not isinstance(text, str):
        raise BadConfig(f"{key} in the image's config is not text")
    return text


def _list(value: Mapping[str, Any], key: str) -> list[str]:
    """
    A list of texts; one text alone is a list of itself, as docker reads it.
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
    """
    An object.
    """
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadConfig(f"{key} in the image's config is not an object")
    return found


def _keys(value: Mapping[str, Any], key: str) -> list[str]:
    """
    What an object that stands for a set has.
    """
    return list(_object(value, key))
