# -*- test-case-name: tests.ctl.commands.test_store -*-
"""
Tests for L{xferd.ctl.commands.store}.
"""

from __future__ import annotations

import json

from tests.ctl.commands.case import IMAGE, CommandCase
from tests.ctl.fake_daemon import DIGEST, Answer, DaemonTestCase, refusal
from tests.ctl.run import run

TAGGED = {"reference": "docker.io/library/alpine:mine", "digest": DIGEST}


class ImagesTests(CommandCase):
    """
    Tests for C{xferctl images} and C{inspect}.
    """

    def test_images(self) -> None:
        """
        Images are listed by name, with short digests.
        """
        self.fake.on("GET", "/images", Answer([IMAGE]))
        heads, row = self.lines("images")
        self.assertEqual(
            heads, ["REFERENCE", "DIGEST", "IMAGE", "ID", "LAYERS", "SIZE", "PULLED", "USED", "BY"]
        )
        self.assertEqual(row[:6], [IMAGE["reference"], "0123456789ab", "0123456789ab", "1", "41.2", "MB"])
        self.assertEqual(row[-1], "ago")
        self.assertEqual(self.objects("images"), [IMAGE])

    def test_used(self) -> None:
        """
        The list names the engines that need an image, and C{inspect} what for.
        """
        used = {**IMAGE, "used_by": ["podman: container a", "podman: container b", "cri-o"]}
        self.fake.on("GET", "/images", Answer([used]))
        self.assertEqual(self.lines("images")[1][-3:], ["ago", "podman,", "cri-o"])
        self.fake.on("GET", "/images/alpine", Answer(used))
        lines = self.lines("inspect", "alpine")
        self.assertIn(["used", "by:", "podman:", "container", "a"], lines)
        self.assertIn(["used", "by:", "cri-o"], lines)

    def test_inspect(self) -> None:
        """
        An image is shown in full.
        """
        self.fake.on("GET", "/images/alpine", Answer(IMAGE))
        lines = self.lines("inspect", "alpine")
        self.assertIn(["digest:", DIGEST], lines)
        self.assertEqual(lines[-2:], [["LAYER", "SIZE", "TYPE"], [DIGEST, "1.5", "kB", "a/layer"]])
        self.assertEqual(self.objects("inspect", "alpine"), [IMAGE])

    def test_inspect_for_a_platform(self) -> None:
        """
        The required platform is sent to the daemon.
        """
        self.fake.on("GET", "/images/alpine?platform=linux/arm%2Bx", Answer(IMAGE))
        self.assertEqual(self.objects("inspect", "alpine", "--platform", "linux/arm+x"), [IMAGE])


class TagTests(DaemonTestCase):
    """
    Tests for C{xferctl tag}.
    """

    def test_tag(self) -> None:
        """
        The new name is printed in full, with its digest.
        """
        self.fake.on("POST", "/images/r.example:5000/a:1/tags", Answer(TAGGED, 201))
        outcome = run(["tag", "r.example:5000/a:1", "alpine:mine", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertEqual([line.split()[-1] for line in outcome.out.splitlines()], [*TAGGED.values()])
        self.assertEqual(self.fake.requests[-1][2], {"reference": "alpine:mine"})
        outcome = run(["tag", "r.example:5000/a:1", "alpine:mine", "--json", "--host", self.fake.url])
        self.assertEqual(json.loads(outcome.out), TAGGED)

    def test_refused(self) -> None:
        """
        The daemon's refusal is the last line on stderr.
        """
        self.fake.on("POST", "/images/a/tags", refusal(404, "NOT_FOUND", "the store has no image a"))
        outcome = run(["tag", "a", "b", "--host", self.fake.url])
        self.assertEqual((outcome.status, outcome.out), (1, ""))
        self.assertEqual(outcome.err, "xferctl: the store has no image a (NOT_FOUND)\n")


FREED = {"blobs": 3, "trees": 1, "layers": 2, "partials": 0, "bytes": 41_200_000}
NOTHING = {"blobs": 0, "trees": 0, "layers": 0, "partials": 0, "bytes": 0}


class RemoveTests(DaemonTestCase):
    """
    Tests for C{xferctl rm}.
    """

    def test_remove(self) -> None:
        """
        Each image is printed with the freed space. After a refusal the others are removed, and
        the refusal is the command's error.
        """
        for name, freed in (("a", FREED), ("c", NOTHING)):
            needed = ["podman: container web"] if name == "c" else []
            shown = {"reference": f"docker.io/library/{name}:latest", "freed": freed, "used_by": needed}
            answer = Answer(shown)
            self.fake.on("DELETE", f"/images/{name}", answer)
        self.fake.on("DELETE", "/images/b", refusal(404, "NOT_FOUND", "the store has no image b"))
        outcome = run(["rm", "a", "b", "c", "--host", self.fake.url])
        self.assertEqual(
            outcome,
            (
                1,
                (
                    "removed:    docker.io/library/a:latest\n"
                    "freed:      41.2 MB (3 blobs, 1 tree, 2 layers)\n"
                    "removed:    docker.io/library/c:latest\n"
                    "freed:      nothing\n"
                    "kept for:   podman: container web\n"
                ),
                "xferctl: the store has no image b (NOT_FOUND)\n",
            ),
        )
        outcome = run(["rm", "a", "--json", "--host", self.fake.url])
        self.assertEqual(json.loads(outcome.out)["freed"], FREED)

    def test_dry_run(self) -> None:
        """
        A dry run reports the space of all images together, and removes none.
        """
        kept = [{"user": "podman", "layers": 3, "bytes": 2000, "by": ["container a"]}]
        self.fake.on("POST", "/gc", Answer({"dry_run": True, "freed": FREED, "kept": kept}))
        outcome = run(["rm", "--dry-run", "a", "b:1", "--host", self.fake.url])
        self.assertEqual(
            outcome.out.splitlines(),
            [
                "would remove: a",
                "would remove: b:1",
                "would free:   41.2 MB (3 blobs, 1 tree, 2 layers)",
                "kept for:     podman: 3 layers, 2.0 kB (container a)",
            ],
        )
        self.assertEqual(
            self.fake.requests, [("POST", "/api/v1/gc", {"dry_run": True, "without": ["a", "b:1"]})]
        )

    def test_which(self) -> None:
        """
        At least one image must be named.
        """
        self.assertEqual(run(["rm", "--host", self.fake.url]).status, 2)


class PinTests(DaemonTestCase):
    """
    Tests for C{xferctl pin} and C{unpin}.
    """

    def test_pin(self) -> None:
        """
        Each image is printed. After a refusal the others are pinned.
        """
        for name in ("a", "c"):
            answer = Answer({"reference": f"docker.io/library/{name}:latest"})
            self.fake.on("POST", f"/images/{name}/pin", answer)
        self.fake.on("POST", "/images/b/pin", refusal(404, "NOT_FOUND", "the store has no image b"))
        outcome = run(["pin", "a", "b", "c", "--host", self.fake.url])
        self.assertEqual(outcome.status, 1)
        self.assertEqual(
            outcome.out, "pinned:     docker.io/library/a:latest\npinned:     docker.io/library/c:latest\n"
        )
        self.assertEqual(outcome.err, "xferctl: the store has no image b (NOT_FOUND)\n")
        outcome = run(["unpin", "a", "--host", self.fake.url])
        self.assertEqual(outcome.out, "unpinned:   docker.io/library/a:latest\n")
        self.assertEqual([r[2]["pinned"] for r in self.fake.requests], [True, True, True, False])


class CollectTests(DaemonTestCase):
    """
    Tests for C{xferctl gc}.
    """

    def test_collect(self) -> None:
        """
        The space that was freed, or would be, is printed.
        """
        self.fake.on("POST", "/gc", Answer({"dry_run": False, "freed": FREED}))
        outcome = run(["gc", "--host", self.fake.url])
        self.assertEqual(outcome, (0, "freed:      41.2 MB (3 blobs, 1 tree, 2 layers)\n", ""))
        outcome = run(["gc", "--dry-run", "--host", self.fake.url])
        self.assertIn("would free: 41.2 MB", outcome.out)
        self.assertEqual([r[2] for r in self.fake.requests], [{"dry_run": False}, {"dry_run": True}])
        run(["gc", "--partials", "--host", self.fake.url])
        self.assertEqual(self.fake.requests[-1][2], {"dry_run": False, "partials": True})
        outcome = run(["gc", "--json", "--host", self.fake.url])
        self.assertEqual(json.loads(outcome.out), {"dry_run": False, "freed": FREED})

    def test_kept(self) -> None:
        """
        A dry run lists what is kept for each engine, without those that need nothing.
        """
        by = ["container a", "image b"]
        kept: list[dict[str, object]] = [
            {"user": "podman", "layers": 3, "bytes": 2000, "by": by},
            {"user": "cri-o", "layers": 1, "bytes": 0},
            {"user": "containerd node", "layers": 0, "bytes": 0, "by": []},
        ]
        self.fake.on("POST", "/gc", Answer({"dry_run": True, "freed": FREED, "kept": kept}))
        outcome = run(["gc", "--dry-run", "--host", self.fake.url])
        self.assertEqual(
            outcome.out.splitlines()[1:],
            [
                "kept for:   podman: 3 layers, 2.0 kB (container a, image b)",
                "kept for:   cri-o: 1 layer, 0 B",
            ],
        )

    def test_held(self) -> None:
        """
        Where nothing can be freed, the output has what holds the space.
        """
        held = dict.fromkeys(("images", "repositories", "jobs", "blobs", "arriving", "trees"), 0)
        kept = [{"user": "podman", "layers": 3, "bytes": 2000, "by": []}]
        owners = "2 images, 2 repositories of the registry, 1 unfinished job"
        every = {**held, "images": 2, "repositories": 2, "jobs": 1, "blobs": 41_200_000, "trees": 99_900_000}
        for has, engines, shown in (
            (held, [], ["the store is empty"]),
            (
                {**every, "arriving": 3_000_000},
                kept,
                [
                    f"{owners}: 41.2 MB in blobs, 99.9 MB in trees",
                    "podman: 3 layers, 2.0 kB",
                    "the next pulls: 3.0 MB in partial blobs (see --partials)",
                ],
            ),
            (
                {**held, "repositories": 1, "blobs": 7},
                [],
                ["1 repository of the registry: 7 B in blobs"],
            ),
        ):
            answer = {"freed": dict.fromkeys(FREED, 0), "kept": engines, "held": has}
            self.fake.on("POST", "/gc", Answer(answer))
            for options in ((), ("--dry-run",)):
                out = run(["gc", *options, "--host", self.fake.url]).out.splitlines()
                self.assertEqual([line.partition(":")[2].strip() for line in out], ["nothing", *shown])
        self.fake.on("POST", "/gc", Answer({"freed": FREED, "kept": kept, "held": every}))
        self.assertEqual(len(run(["gc", "--host", self.fake.url]).out.splitlines()), 1)

    def test_odd_answer(self) -> None:
        """
        An answer without the freed space is accepted.
        """
        self.fake.on("POST", "/gc", Answer({"freed": 7}))
        self.assertEqual(run(["gc", "--host", self.fake.url]), (0, "", ""))
