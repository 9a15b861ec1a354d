"""
Tests for L{xferd.engines.snapshotter.mounts}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.snapshotter.labels import GID_MAP, UID_MAP
from xferd.engines.snapshotter.mounts import ROOM, mount_of, needs_short_names
from xferd.interfaces.snapshots import Kind, Mount, Snapshot


def snapshot(kind: Kind, **labels: str) -> Snapshot:
    """
    A snapshot.
    """
    return Snapshot(1, "key", kind, "", 0, 0, labels)


MAPS = {UID_MAP: "0:100000:65536", GID_MAP: "0:200000:65536"}


class MountTests(SynchronousTestCase):
    """
    The forms of mounts, which are those of containerd's overlayfs snapshotter.
    """

    def test_no_parent(self) -> None:
        """
        A snapshot without a parent is its own directory.
        """
        active = mount_of(snapshot(Kind.ACTIVE), [], "/s/1")
        self.assertEqual(active, Mount("bind", "/s/1/fs", ("rw", "rbind")))
        view = mount_of(snapshot(Kind.VIEW), [], "/s/1")
        self.assertEqual(view, Mount("bind", "/s/1/fs", ("ro", "rbind")))

    def test_active(self) -> None:
        """
        An active one is an overlay, with its own directory on top.
        """
        for lowers in (["/t/a"], ["/t/b", "/t/a"]):
            options = ("workdir=/s/1/work", "upperdir=/s/1/fs", f"lowerdir={':'.join(lowers)}", "index=off")
            mount = mount_of(snapshot(Kind.ACTIVE), lowers, "/s/1")
            self.assertEqual(mount, Mount("overlay", "overlay", options))

    def test_view(self) -> None:
        """
        A view of one layer is that layer, and one of several an overlay without a directory
        to write to.
        """
        one = mount_of(snapshot(Kind.VIEW), ["/t/a"], "/s/1")
        self.assertEqual(one, Mount("bind", "/t/a", ("ro", "rbind")))
        two = mount_of(snapshot(Kind.VIEW), ["/t/b", "/t/a"], "/s/1")
        self.assertEqual(two, Mount("overlay", "overlay", ("lowerdir=/t/b:/t/a", "index=off")))

    def test_user_namespace(self) -> None:
        """
        Every form has the ID maps as options.
        """
        maps = ("uidmap=0:100000:65536", "gidmap=0:200000:65536")
        for kind in (Kind.ACTIVE, Kind.VIEW):
            for lowers in ([], ["/t/a"], ["/t/b", "/t/a"]):
                mount = mount_of(snapshot(kind, **MAPS), lowers, "/s/1")
                self.assertEqual(mount.options[:2], maps)

    def test_in_namespace(self) -> None:
        """
        In a user namespace of the daemon, each overlay has the option by which overlayfs reads
        the attributes of the trees there.
        """
        for kind in (Kind.ACTIVE, Kind.VIEW):
            mount = mount_of(snapshot(kind), ["/t/b", "/t/a"], "/s/1", in_namespace=True)
            self.assertEqual(mount.options[-1], "userxattr")
            bind = mount_of(snapshot(kind), [], "/s/1", in_namespace=True)
            self.assertNotIn("userxattr", bind.options)

    def test_room(self) -> None:
        """
        Options that may not fit into a page need short names.
        """
        fits = mount_of(snapshot(Kind.ACTIVE), ["/t/a"] * 100, "/s/1")
        self.assertFalse(needs_short_names(fits))
        self.assertTrue(needs_short_names(mount_of(snapshot(Kind.VIEW), ["/" + "a" * ROOM, "/t"], "")))
