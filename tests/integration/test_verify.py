"""
C{xferctl verify} with a real daemon and Debian's registry: damage is found, named, and
replaced, or moved aside.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.peers import PASSWORD, USER, DockerRegistry, push, run
from tests.integration.programs import TWISTD, Xferd
from tests.integration.trees import listing
from xferd.ctl.client import ENDED
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import SampleImage, sample_image

reactor = cast(IReactor, installed)


class VerifyCase(TestCase):
    """
    A daemon with one image, from a registry of its own.

    @cvar private: whether the registry wants credentials, which the daemon has until
        L{log_out}.
    """

    private = False

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Push the image, and pull it.
        """
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.registry = DockerRegistry(reactor, str(self.place / "registry"), htpasswd=self.private)
        await self.registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.registry.stop()))
        self.auth = self.place / "auth.json"
        self.write_auth({self.registry.host: {"username": USER, "password": PASSWORD}})
        config = self.place / "xferd.toml"
        config.write_text("[retry]\nattempts = 1\n")
        self.options = ("--config", str(config), "--auth-file", str(self.auth))
        await self.start()
        self.image: SampleImage = sample_image(2, 300_000)
        self.reference = f"{self.registry.host}/team/app:1"
        creds = [f"--dest-creds={USER}:{PASSWORD}"] if self.private else []
        await push(reactor, self.image, self.reference, str(self.place / "layout"), *creds)
        await self.daemon.ctl("pull", self.reference)
        self.data = Path(self.daemon.data)

    async def start(self) -> None:
        """
        Start a daemon on the same data.
        """
        self.daemon = daemon = Xferd(reactor, str(self.place / "x"), *self.options)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))

    def write_auth(self, auths: Mapping[str, Mapping[str, str]]) -> None:
        """
        Write the daemon's credentials.
        """
        self.auth.write_text(json.dumps({"auths": auths}))
        self.auth.chmod(0o600)

    def blob(self, digest: object) -> Path:
        """
        The file of a blob.
        """
        return self.data / "content/blobs" / str(digest).replace(":", "/")

    async def verify(self, *arguments: str) -> tuple[dict[str, Any], str, int]:
        """
        Run C{xferctl verify}.

        @return: the job as it ended, the last line of stderr, and the exit status.
        """
        output, errors, status = await self.daemon.try_ctl("verify", *arguments, "--json")
        jobs = [event["data"] for event in map(json.loads, output.splitlines()) if event["kind"] == "job"]
        return jobs[-1], (errors.splitlines() or [""])[-1], status

    async def assert_healed(self, *expected: tuple[str, str], reference: str = "") -> None:
        """
        A verification finds these things damaged, by path and a part of the problem, and
        replaces all of them; the next one finds nothing.
        """
        job, errors, status = await self.verify(*([reference] if reference else []))
        self.assertEqual((status, errors), (0, ""), job)
        found = [(finding["path"], finding["problem"], finding["state"]) for finding in job["findings"]]
        self.assertEqual([(path, state) for path, _, state in found], [(p, "healed") for p, _ in expected])
        for (_, problem, _), (_, part) in zip(found, expected, strict=True):
            self.assertIn(part, problem)
        job, _, status = await self.verify()
        self.assertEqual((status, job["findings"]), (0, []))

    def kept(self) -> list[str]:
        """
        The names in C{quarantine/}.
        """
        quarantine = self.data / "quarantine"
        return sorted(os.listdir(quarantine)) if quarantine.exists() else []


def flip(path: Path, at: int = 1000) -> None:
    """
    Flip one bit of a file, and leave its times as they are.
    """
    times = os.stat(path)
    data = bytearray(path.read_bytes())
    data[at] ^= 16
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


class BlobTests(VerifyCase):
    """
    Damaged blobs.
    """

    async def test_healed(self) -> None:
        """
        A flipped bit, a truncated, a longer and a missing blob are found and replaced, for one
        image and for the whole store, and so are damaged documents.
        """
        layer = self.image.layers[0].blob.digest
        path, name = self.blob(layer), f"content/blobs/sha256/{layer.hex}"
        _, _, status = await self.verify(self.reference)
        self.assertEqual(status, 0)
        right = path.read_bytes()
        flip(path)
        await self.assert_healed((name, "has the digest"), reference=self.reference)
        self.assertEqual(path.read_bytes(), right)
        os.truncate(path, 1000)
        await self.assert_healed((name, "has 1000 bytes"))
        path.write_bytes(right + b"more")
        await self.assert_healed((name, "bytes; it should have"))
        path.unlink()
        await self.assert_healed((name, "is missing"))
        for digest in (self.image.digest, self.image.config.digest):
            flip(self.blob(digest), 10)
            await self.assert_healed((f"content/blobs/sha256/{digest.hex}", "has the digest"))
        self.assertEqual(self.kept(), [])

    async def test_upstream_gone(self) -> None:
        """
        What cannot be fetched again is moved aside, never served, and named, with the
        reason; when its registry is back, it is fetched.
        """
        layer = self.image.layers[1].blob.digest
        flip(self.blob(layer))
        await self.registry.stop()
        job, errors, status = await self.verify()
        self.assertEqual(status, 1)
        self.assertIn("STORE_DAMAGED", errors)
        (finding,) = job["findings"]
        self.assertEqual((finding["state"], finding["needed_by"]), ("quarantined", [self.reference]))
        self.assertIn(self.registry.host, finding["why"])
        self.assertEqual(self.kept(), [f"blob-sha256-{layer.hex}"])
        self.assertFalse(self.blob(layer).exists())
        output, _, status = await self.daemon.try_ctl("verify", self.reference)
        self.assertEqual(status, 1)
        self.assertIn(f"content/blobs/sha256/{layer.hex} is missing; not replaced: ", output)


class PrivateTests(VerifyCase):
    """
    An image of a registry that wants credentials.
    """

    private = True

    async def test_credentials(self) -> None:
        """
        Without credentials, the reason says so; with those of the daemon, or of the user
        who runs xferctl, the blob is fetched.
        """
        layer = self.image.layers[0].blob.digest
        flip(self.blob(layer))
        self.write_auth({})
        job, _, status = await self.verify(self.reference)
        self.assertEqual(status, 1)
        (finding,) = job["findings"]
        self.assertIn("credentials", finding["why"])
        self.write_auth({self.registry.host: {"username": USER, "password": PASSWORD}})
        job, _, status = await self.verify(self.reference)
        self.assertEqual((status, job["findings"][0]["state"]), (0, "healed"))


class TreeCase(VerifyCase):
    """
    The trees of the image.
    """

    def tree(self) -> Path:
        """
        The present directory of the lower layer's tree.
        """
        return self.trees()[0]

    def trees(self) -> list[Path]:
        """
        The present directories of the image's trees.
        """
        return [Path(each) for each in self.shown["trees"]]

    async def look(self) -> None:
        """
        Read the image's directories again.
        """
        (self.shown,) = await self.daemon.show("inspect", self.reference)


class TreeTests(TreeCase):
    """
    Damaged trees.
    """

    async def test_healed(self) -> None:
        """
        Each kind of damage of a tree is found, named by its path, and replaced by another
        tree, while the damaged one stays mounted.
        """
        await self.look()
        before = listing(str(self.tree()))
        name = next(
            os.fsdecode(path) for path, facts in sorted(before.items()) if facts.get("size", 0) > 2000
        )
        same = {os.fsdecode(each) for each, facts in before.items() if facts.get("same as") == name.encode()}
        damages: list[tuple[str, Callable[[Path], object], str, str]] = [
            (name, lambda path: flip(path), "has other content", ""),
            (name, lambda path: os.truncate(path, 5), "has 5 bytes", "modified"),
            (name, lambda path: path.unlink(), "is missing", "modified"),
            ("extra", lambda path: path.write_bytes(b"x"), "is not part of the layer", "modified"),
            (name, lambda path: path.chmod(0o4777), "has the mode 4777", ""),
            (name, lambda path: os.setxattr(path, "user.x", b"y"), "user.x", "once"),
        ]
        if os.geteuid() == 0:
            damages.append((name, lambda path: os.chown(path, 1, 2), "belongs to 1:2", ""))
        for path, damage, problem, more in damages:
            damaged = self.tree()
            damage(damaged / path)
            job, errors, status = await self.verify(self.reference)
            self.assertEqual((status, errors), (0, ""), job)
            found = {(finding["path"], finding["state"]): finding["problem"] for finding in job["findings"]}
            self.assertIn(problem, found[path, "healed"])
            if more == "once":
                self.assertEqual({each for each, _ in found}, {path})
            elif not more:
                # A hard link is the same file.
                self.assertEqual({each for each, _ in found}, {path, *same})
            self.assertEqual({finding["kind"] for finding in job["findings"]}, {"tree"})
            await self.look()
            self.assertNotEqual(self.tree(), damaged)
            self.assertEqual(listing(str(self.tree())), before)
            job, _, status = await self.verify()
            self.assertEqual((status, job["findings"]), (0, []))
        await self.daemon.ctl("gc")
        self.assertEqual(self.kept(), [])

    async def test_upstream_gone(self) -> None:
        """
        A tree is unpacked again from its blob without a request.  Without the blob, too, it
        is moved aside with the layers on top, and named; a later pull brings it back.
        """
        await self.look()
        await self.registry.stop()
        shutil.rmtree(self.tree() / "dir", ignore_errors=True)
        (self.tree() / "extra").write_bytes(b"x")
        job, _, status = await self.verify()
        self.assertEqual(status, 0, job)
        await self.look()
        (self.tree() / "extra").write_bytes(b"x")
        self.blob(self.image.layers[0].blob.digest).unlink()
        job, errors, status = await self.verify()
        self.assertEqual(status, 1)
        self.assertIn("STORE_DAMAGED", errors)
        states = {(finding["kind"], finding["path"]): finding["state"] for finding in job["findings"]}
        self.assertEqual(states["tree", "extra"], "quarantined")
        self.assertIn(self.registry.host, job["findings"][-1]["why"])
        (kept,) = self.kept()
        self.assertTrue((self.data / "quarantine" / kept / "diff/extra").exists())
        _, errors, status = await self.daemon.try_ctl("inspect", self.reference)
        self.assertIn("pull the image again", errors)

    async def test_restart(self) -> None:
        """
        What was found and replaced stays so over a restart.
        """
        await self.look()
        (self.tree() / "extra").write_bytes(b"x")
        _, _, status = await self.verify()
        self.assertEqual(status, 0)
        await self.look()
        healed = self.tree()
        await self.daemon.stop()
        await self.start()
        await self.look()
        self.assertEqual(self.tree(), healed)
        job, _, status = await self.verify()
        self.assertEqual((status, job["findings"]), (0, []))

    async def test_no_record(self) -> None:
        """
        A tree by an older xferd gets its record from its blob, and is checked then.
        """
        await self.look()
        for tree in self.trees():
            (tree.parent / "entries").unlink()
        (self.tree() / "extra").write_bytes(b"x")
        job, _, status = await self.verify()
        self.assertEqual((status, job["warnings"]), (0, []))
        self.assertEqual({finding["path"] for finding in job["findings"]} - {"."}, {"extra"})
        await self.look()
        self.assertTrue(all((tree.parent / "entries").exists() for tree in self.trees()))


class ScrubTests(TreeCase):
    """
    The check in the background.
    """

    async def start(self) -> None:
        """
        Start a daemon that begins to check after two seconds, and not after an hour.
        """
        config = self.place / "xferd.toml"
        config.write_text("[scrub]\nrate = 100000000\n")
        self.daemon = daemon = Xferd(reactor, str(self.place / "x"), *self.options)
        begin = daemon._argv.index(TWISTD[2])
        daemon._argv[begin] = f"from xferd.jobs.verify import scrub; scrub.REST = 2.0; {TWISTD[2]}"
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))

    async def findings(self) -> list[tuple[str, str, str]]:
        """
        Wait until the scrub has begun a verification and that has ended.

        @return: the kind, path and state of each finding.
        """
        while not (
            found := [job for job in await self.daemon.show("jobs", "--all") if job["kind"] == "verify"]
        ):
            await deferLater(reactor, 0.2)
        (job,) = found
        while job["state"] not in ENDED:
            (job,) = await self.daemon.show("job", job["id"])
        self.assertEqual((job["state"], job["client"], job["error"]), ("done", "scrub", None))
        return [(finding["kind"], finding["path"], finding["state"]) for finding in job["findings"]]

    async def test_blob(self) -> None:
        """
        The scrub finds a flipped bit of a blob, names it, and replaces the blob, without a
        request of a client.
        """
        layer = self.image.layers[0].blob.digest
        path = self.blob(layer)
        right = path.read_bytes()
        flip(path)
        name = f"content/blobs/sha256/{layer.hex}"
        self.assertEqual(await self.findings(), [("blob", name, "healed")])
        self.assertEqual(path.read_bytes(), right)
        self.assertEqual(self.kept(), [])

    async def test_tree(self) -> None:
        """
        It finds a flipped bit of a file in a tree, names the file, and gives the layer another
        tree; the damaged one is left as it is.
        """
        await self.look()
        damaged, before = self.tree(), listing(str(self.tree()))
        name = min(os.fsdecode(path) for path, facts in before.items() if facts.get("size", 0) > 2000)
        flip(damaged / name)
        wrong = (damaged / name).read_bytes()
        self.assertIn(("tree", name, "healed"), await self.findings())
        await self.look()
        self.assertNotEqual(self.tree(), damaged)
        self.assertEqual(listing(str(self.tree())), before)
        self.assertEqual((damaged / name).read_bytes(), wrong)


class MountedTests(TreeCase):
    """
    A damaged tree that a container has mounted.
    """

    async def test_mounted(self) -> None:
        """
        A mount of a damaged tree goes on, and C{gc} keeps the tree until it is unmounted.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root may mount")
        await self.look()
        damaged, target = self.tree(), self.place / "mounted"
        (damaged / "extra").write_bytes(b"x")
        target.mkdir()
        lower = ":".join(map(str, reversed(self.trees())))
        await run(reactor, ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower}", str(target)])
        try:
            before = listing(str(target))
            _, errors, status = await self.verify(self.reference)
            self.assertEqual((status, errors), (0, ""))
            await self.look()
            self.assertNotEqual(self.tree(), damaged)
            await self.daemon.ctl("gc")
            self.assertEqual(listing(str(target)), before)
            self.assertTrue(damaged.exists())
        finally:
            await run(reactor, ["umount", str(target)])
        await self.daemon.ctl("gc")
        self.assertFalse(damaged.exists())


class JournalTests(VerifyCase):
    """
    A copy of the journal.
    """

    async def test_restored(self) -> None:
        """
        A copy that was made while the daemon ran, put in place as documented, has the jobs
        of that time.
        """
        (job,) = await self.daemon.show("jobs", "--all")
        copy = str(self.place / "copy.db")
        await self.daemon.ctl("export-journal", copy)
        await self.daemon.ctl("pull", self.reference)
        self.assertEqual(len(await self.daemon.show("jobs", "--all")), 2)
        await self.daemon.stop()
        for suffix in ("-wal", "-shm"):
            (self.data / f"xferd.db{suffix}").unlink(missing_ok=True)
        shutil.copy(copy, self.data / "xferd.db")
        await self.start()
        self.assertEqual([each["id"] for each in await self.daemon.show("jobs", "--all")], [job["id"]])
        _, _, status = await self.verify()
        self.assertEqual(status, 0)
