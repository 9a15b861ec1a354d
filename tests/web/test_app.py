"""
Tests for L{xferd.web.app}: each route, with success and errors.

The module is long, as L{xferd.web.app} is, because one class has all routes.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.web.connection import Answer
from tests.web.fakes import ATTEMPT, CONFIG, TRANSFER, FakeStream, image, job
from tests.web.world import World
from xferd.credentials import Credentials, Secret
from xferd.engines.former import FormerEngines
from xferd.errors import (
    BadInput,
    BadReference,
    ConfigError,
    CoordinationUnavailable,
    EngineFailed,
    Interrupted,
    NotFound,
)
from xferd.interfaces.collection import KeptFor
from xferd.interfaces.engines import EngineImageJSON, FilledJSON
from xferd.interfaces.fleet_status import ALONE, NO_FLEET, IFleet
from xferd.interfaces.jobs import IEventStream, IJobs
from xferd.interfaces.snapshots import Kind, Snapshot
from xferd.interfaces.store import IImages, IStore
from xferd.testing.fake_engine import FakeEngine
from xferd.testing.fake_fleet import FakeFleet
from xferd.testing.fake_store import FakeStore
from xferd.web.job_creation import MAX_TCP_JOBS


class FakesTests(SynchronousTestCase):
    """
    The fakes provide the Interfaces.
    """

    def test_provided(self) -> None:
        """
        Each provides its Interface.
        """
        world = World()
        self.assertTrue(verifyObject(IJobs, world.jobs))
        self.assertTrue(verifyObject(IStore, world.store))
        self.assertTrue(verifyObject(IImages, world.store.images))
        self.assertTrue(verifyObject(IEventStream, FakeStream()))


class LimitTests(SynchronousTestCase):
    """
    C{/api/v1/limits}.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()

    def change(self, body: bytes) -> Answer:
        """
        Change limits.
        """
        return self.world.ask("PATCH", "/api/v1/limits", body)

    def test_show(self) -> None:
        """
        The response contains the limits.
        """
        answer = self.world.ask("GET", "/api/v1/limits")
        self.assertEqual((answer.status, answer.json()), (200, self.world.jobs.limited))

    def test_change(self) -> None:
        """
        Some limits are changed, and all are returned; an empty body changes
        none.
        """
        answer = self.change(b'{"downloads": 7, "download_rate": 2000000}')
        expected = {**World().jobs.limited, "downloads": 7, "download_rate": 2_000_000}
        self.assertEqual((answer.status, answer.json()), (200, expected))
        self.assertEqual(self.change(b"{}").json(), expected)
        kept = self.change(b'{"uploads": 7, "downloads": null, "keep": true}').json()
        self.assertEqual(kept, {**expected, "uploads": 7, "kept": {"uploads": 7}})

    def test_refused(self) -> None:
        """
        A value that is not a number is refused.
        """
        for value in (b"true", b'"5"', b"1.5", b"[]"):
            answer = self.change(b'{"downloads": %s}' % value)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_INPUT"))
        self.assertEqual(self.change(b'{"downloads": 5, "keep": 1}').status, 400)
        self.world.jobs.refuses = BadInput("no")
        self.assertEqual(self.change(b'{"downloads": 0}').status, 400)
        self.assertEqual(self.world.jobs.limited, World().jobs.limited)


class JobTests(SynchronousTestCase):
    """
    C{/api/v1/jobs}.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()

    def test_pull(self) -> None:
        """
        A pull is started for the client's address, and the response names its
        location.
        """
        answer = self.world.post({"kind": "pull", "reference": "alpine"})
        self.assertEqual(answer.status, 202)
        self.assertEqual(answer.headers["location"], "/api/v1/jobs/j1")
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(
            answer.json(),
            {**job(id="j1", client="127.0.0.1", restart="rejoin"), "layers": [], "transfers": ["t1"]},
        )
        self.assertEqual(self.world.jobs.pulled, [("alpine", None, "127.0.0.1", 0)])

    def test_cancellation_is_durable(self) -> None:
        """
        The response to a cancellation waits until the journal has it, and shows the state of then.
        """
        self.world.post({"kind": "pull", "reference": "alpine"})
        self.world.jobs.flushing = []
        connection = self.world.connect()
        connection.send("DELETE", "/api/v1/jobs/j1", {"Host": "localhost"}, b"")
        self.assertEqual(self.world.jobs.cancelled, [("j1", "(127.0.0.1)")])
        self.assertEqual(self.world.jobs.known["j1"]["state"], "running")
        self.assertEqual(connection.received(), b"")
        self.world.jobs.flush()
        self.assertEqual(connection.answer().json()["state"], "cancelled")

    def test_pull_all_fields(self) -> None:
        """
        Platform and priority are passed to the jobs, and a client may set its
        name.
        """
        self.world.ask(
            "POST",
            "/api/v1/jobs",
            json.dumps(
                {"kind": "pull", "reference": "a", "platform": "linux/arm64", "priority": -3}
            ).encode(),
            {"X-Xferd-Client": "ci@builder-7"},
        )
        self.assertEqual(self.world.jobs.pulled, [("a", "linux/arm64", "ci@builder-7", -3)])

    def test_push(self) -> None:
        """
        A push is started, with or without a target, with further tags and
        platforms.
        """
        answer = self.world.post({"kind": "push", "reference": "a", "target": "b:2", "priority": 7})
        self.assertEqual((answer.status, answer.json()["kind"]), (202, "push"))
        self.assertEqual(answer.headers["location"], "/api/v1/jobs/j1")
        self.world.post({"kind": "push", "reference": "a"})
        self.world.post({"kind": "push", "reference": "a", "tags": ["3", "4"], "platform": "all"})
        self.assertEqual(
            self.world.jobs.pushed,
            [
                ("a", "b:2", (), None, "127.0.0.1", 7),
                ("a", None, (), None, "127.0.0.1", 0),
                ("a", None, ("3", "4"), "all", "127.0.0.1", 0),
            ],
        )

    def test_copy(self) -> None:
        """
        A copy is started, with or without referrers.
        """
        asked = {"kind": "copy", "reference": "a", "target": "b"}
        answer = self.world.post({**asked, "platform": "linux/arm64", "referrers": True, "priority": -1})
        self.assertEqual((answer.status, answer.json()["kind"]), (202, "copy"))
        self.world.post(asked)
        self.assertEqual(
            self.world.jobs.copied,
            [("a", "b", "linux/arm64", True, "127.0.0.1", -1), ("a", "b", None, False, "127.0.0.1", 0)],
        )

    def test_verify(self) -> None:
        """
        A verification is started, of one image or of all content.  Credentials without a
        registry cannot be used for all content.
        """
        asked = {"kind": "verify", "reference": "a", "priority": 2}
        answer = self.world.ask("POST", "/api/v1/jobs", json.dumps(asked).encode())
        self.assertEqual((answer.status, answer.json()["kind"]), (202, "verify"))
        self.assertEqual(self.world.ask("POST", "/api/v1/jobs", b'{"kind": "verify"}').status, 202)
        self.assertEqual(self.world.jobs.verified, [("a", "127.0.0.1", 2), (None, "127.0.0.1", 0)])
        headers = {"X-Registry-Auth": urlsafe_b64encode(b'{"username": "u", "password": "p"}').decode()}
        refused = self.world.ask("POST", "/api/v1/jobs", b'{"kind": "verify"}', headers)
        self.assertEqual(refused.status, 400)
        self.assertIn("serveraddress", refused.json()["error"]["message"])

    def test_prefetch(self) -> None:
        """
        A prefetch is started, for one platform or all, without the client's credentials.
        """
        asked = {"kind": "prefetch", "reference": "a"}
        answer = self.world.post({**asked, "platform": "all", "priority": 3})
        self.assertEqual((answer.status, answer.json()["kind"]), (202, "prefetch"))
        self.world.post(asked)
        self.assertEqual(
            self.world.jobs.prefetched, [("a", "all", "127.0.0.1", 3), ("a", None, "127.0.0.1", 0)]
        )
        self.assertEqual(self.world.jobs.brought, [])

    def test_pull_over_the_socket(self) -> None:
        """
        A client of the unix socket that gives no name is called local.
        """
        self.world.ask("POST", "/api/v1/jobs", b'{"kind":"pull","reference":"a"}', unix=True)
        self.assertEqual(self.world.jobs.pulled, [("a", None, "local", 0)])

    def test_places_for_the_socket(self) -> None:
        """
        If very many jobs have not ended, a further one is accepted only over
        the unix socket, and the response to an earlier request is repeated.
        """
        key = {"Idempotency-Key": "k"}
        body = b'{"kind":"pull","reference":"a"}'
        self.world.jobs.others = MAX_TCP_JOBS - 1
        self.assertEqual(self.world.ask("POST", "/api/v1/jobs", body, key).status, 202)
        answer = self.world.ask("POST", "/api/v1/jobs", body)
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (429, "TOO_MANY_JOBS"))
        self.assertEqual(len(self.world.jobs.pulled), 1)
        self.assertEqual(self.world.ask("POST", "/api/v1/jobs", body, key).status, 200)
        self.assertEqual(self.world.ask("POST", "/api/v1/jobs", body, unix=True).status, 202)

    def test_pull_refused(self) -> None:
        """
        An invalid reference is a client error, which names it.
        """
        self.world.jobs.refuses = BadReference("A B", "no")
        answer = self.world.post({"kind": "pull", "reference": "A B"})
        self.assertEqual(answer.status, 400)
        self.assertEqual(
            answer.json(),
            {
                "error": {
                    "code": "NAME_INVALID",
                    "message": "'A B' is not an image reference: no",
                    "detail": {"retryable": False},
                }
            },
        )

    def test_stopping(self) -> None:
        """
        A daemon that is stopping accepts no job.
        """
        self.world.jobs.refuses = Interrupted("xferd is stopping")
        self.assertEqual(self.world.post({"kind": "pull", "reference": "a"}).status, 503)

    def test_bug(self) -> None:
        """
        A bug is a 500 without details, which are in the log.
        """
        self.world.jobs.refuses = ZeroDivisionError("secret")
        answer = self.world.ask("GET", "/api/v1/jobs")
        self.assertEqual(answer.status, 500)
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(answer.json()["error"]["code"], "INTERNAL")
        self.assertIsNone(answer.json()["error"]["detail"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_show(self) -> None:
        """
        A job is returned with its layers.
        """
        self.world.jobs.known["j9"] = job(id="j9")
        answer = self.world.ask("GET", "/api/v1/jobs/j9")
        self.assertEqual(answer.json(), {**job(id="j9"), "layers": [], "transfers": ["t1"]})

    def test_attempts(self) -> None:
        """
        The attempts of a job are returned; for an unknown job there is a 404.
        """
        self.world.jobs.known["j9"] = job(id="j9")
        self.assertEqual(self.world.ask("GET", "/api/v1/jobs/j9/attempts").json(), [ATTEMPT])
        answer = self.world.ask("GET", "/api/v1/jobs/j8/attempts")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (404, "NOT_FOUND"))

    def test_cancel(self) -> None:
        """
        A job is cancelled, and returned in its new state.
        """
        self.world.jobs.known["j9"] = job(id="j9")
        headers = {"X-Xferd-Client": "ops"}
        answer = self.world.ask("DELETE", "/api/v1/jobs/j9", headers=headers, unix=True)
        self.assertEqual((answer.status, answer.json()["state"]), (200, "cancelled"))
        self.assertEqual(self.world.jobs.cancelled, [("j9", "(ops)")])

    def test_named(self) -> None:
        """
        The first characters of an ID name its job, whose ID the audit trail has; those of several
        jobs are refused.
        """
        for each in ("j91", "j92", "k1"):
            self.world.jobs.known[each] = job(id=each)
        with capturedLogs() as events:
            answer = self.world.ask("DELETE", "/api/v1/jobs/j91", unix=True)
            self.assertEqual((answer.status, answer.json()["id"]), (200, "j91"))
            self.assertEqual(self.world.ask("DELETE", "/api/v1/jobs/k", unix=True).json()["id"], "k1")
        self.assertEqual([each.get("job") for each in events if "door" in each], ["j91", "k1"])
        for path in ("", "/attempts", "/events"):
            answer = self.world.ask("GET", f"/api/v1/jobs/j9{path}")
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (409, "AMBIGUOUS_ID"))

    def test_in_the_journal(self) -> None:
        """
        A job that only the journal has is returned, unchanged by DELETE; its
        stream of events ends at once, and its import accepts no piece.
        """
        self.world.jobs.older["j9"] = job(id="j9", kind="import", state="failed")
        for method in ("GET", "DELETE"):
            answer = self.world.ask(method, "/api/v1/jobs/j9")
            self.assertEqual((answer.status, answer.json()["state"]), (200, "failed"))
        events = self.world.ask("GET", "/api/v1/jobs/j9/events", headers={"Accept": "application/x-ndjson"})
        self.assertEqual(json.loads(events.body)["data"]["id"], "j9")
        piece = {"Content-Type": "application/octet-stream", "Content-Range": "0-0"}
        for method, body, headers in (("PATCH", b"x", piece), ("PUT", b'{"size": 1}', {})):
            answer = self.world.ask(method, "/api/v1/jobs/j9/content", body, headers)
            self.assertEqual(answer.status, 400)
            self.assertIn("the import j9 has ended (failed)", answer.json()["error"]["message"])

    def test_unknown(self) -> None:
        """
        An unknown job is a 404 for every request.
        """
        for method, path in [
            ("GET", "/api/v1/jobs/j9"),
            ("DELETE", "/api/v1/jobs/j9"),
            ("GET", "/api/v1/jobs/j9/events"),
        ]:
            answer = self.world.ask(method, path)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (404, "NOT_FOUND"), path)


class StoreTests(SynchronousTestCase):
    """
    C{/api/v1/transfers}, C{/api/v1/images} and C{/api/v1/status}.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()

    def test_transfers(self) -> None:
        """
        Transfers are listed in order.
        """
        self.world.jobs.running = [TRANSFER]
        self.assertEqual(self.world.ask("GET", "/api/v1/transfers").json(), [TRANSFER])

    def test_images(self) -> None:
        """
        Images are listed with their manifests, configs and layers.
        """
        made = image()
        self.world.store.images.named[made.reference] = made
        self.world.store.gc.users[made.chain_id] = ["podman: container a"]
        (shown,) = self.world.ask("GET", "/api/v1/images").json()
        self.assertEqual(
            shown,
            {
                "reference": "docker.io/library/alpine:latest",
                "digest": str(made.manifest.digest),
                "image_id": str(made.config.digest),
                "resolved": str(made.resolved),
                "source": "docker.io/library/alpine",
                "size": 9800,
                "created": "2026-01-02T03:04:05Z",
                "pulled": None,
                "pinned": False,
                "used_by": ["podman: container a"],
                "layers": [
                    {
                        "digest": str(made.layers[0].digest),
                        "size": 9000,
                        "media_type": "application/x-layer",
                    }
                ],
            },
        )

    def test_image(self) -> None:
        """
        An image is found by every spelling of its name.
        """
        made = image()
        self.world.store.images.named[made.reference] = made
        for name in ("alpine", "docker.io/library/alpine:latest", "docker.io%2Flibrary%2Falpine%3Alatest"):
            answer = self.world.ask("GET", f"/api/v1/images/{name}")
            self.assertEqual(answer.json()["reference"], "docker.io/library/alpine:latest", name)

    def test_image_in_full(self) -> None:
        """
        A single image is returned with its config and the directories of its
        layers.
        """
        made = image()
        self.world.store.images.named[made.reference] = made
        shown = self.world.ask("GET", "/api/v1/images/alpine").json()
        self.assertEqual(shown["config"], CONFIG)
        self.assertEqual(shown["platform"], "linux/amd64")
        self.assertEqual(shown["trees"], [f"/trees/{made.layers[0].digest.hex}"])

    def test_renew_trees(self) -> None:
        """
        Layers that an older daemon has unpacked are unpacked again on request,
        with the credentials in its headers.
        """
        answer = self.world.ask("POST", "/api/v1/images/team/app:1/trees")
        self.assertEqual((answer.status, answer.json()), (200, {"warnings": ["one layer is old"]}))
        self.assertEqual([name for name, _ in self.world.jobs.renewed], ["team/app:1"])
        self.world.jobs.refuses = NotFound("there is no app")
        answer = self.world.ask("POST", "/api/v1/images/app/trees")
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (404, "NOT_FOUND"))

    def test_tag(self) -> None:
        """
        An image gets another name, and is returned under it.
        """
        body = json.dumps({"reference": "other:2"}).encode()
        answer = self.world.ask("POST", "/api/v1/images/team/app:1/tags", body)
        self.assertEqual((answer.status, answer.json()["reference"]), (201, "docker.io/library/other:2"))
        self.assertEqual(self.world.jobs.image_admin.tagged, [("team/app:1", "other:2")])

    def test_tag_refused(self) -> None:
        """
        An invalid name is refused by the server, or by the store.
        """
        for value in ({}, {"reference": ""}, {"reference": 7}, {"reference": "a", "tag": "b"}):
            answer = self.world.ask("POST", "/api/v1/images/app/tags", json.dumps(value).encode())
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_INPUT"))
        self.world.jobs.image_admin.refuses = NotFound("there is no app")
        answer = self.world.ask("POST", "/api/v1/images/app/tags", b'{"reference": "a"}')
        self.assertEqual((answer.status, answer.json()["error"]["message"]), (404, "there is no app"))
        self.assertEqual(self.world.jobs.image_admin.tagged, [])

    def test_remove(self) -> None:
        """
        An image is removed by every spelling of its name; the response contains
        the freed space.
        """
        made = image()
        self.world.store.images.named[made.reference] = made
        self.world.store.gc.users[made.chain_id] = ["podman: container a"]
        answer = self.world.ask("DELETE", "/api/v1/images/alpine")
        freed = {"blobs": 3, "trees": 2, "layers": 2, "partials": 1, "bytes": 900}
        self.assertEqual(answer.status, 200)
        expected = {
            "reference": "docker.io/library/alpine:latest",
            "freed": freed,
            "used_by": ["podman: container a"],
        }
        self.assertEqual(answer.json(), expected)
        self.assertEqual(self.world.jobs.image_admin.removed, ["alpine"])
        self.world.jobs.image_admin.refuses = NotFound("there is no alpine")
        self.assertEqual(self.world.ask("DELETE", "/api/v1/images/alpine").status, 404)

    def test_pin(self) -> None:
        """
        An image is pinned and unpinned, also one whose name ends in that word.
        """
        for name in ("alpine", "ghcr.io/team/pin"):
            for pinned in (True, False):
                body = json.dumps({"pinned": pinned}).encode()
                answer = self.world.ask("POST", f"/api/v1/images/{name}/pin", body)
                self.assertEqual((answer.status, answer.json()["pinned"]), (200, pinned))
                self.assertEqual(self.world.jobs.image_admin.pinned[-1], (name, pinned))
        for wrong in (b"", b"[]", b"{}", b'{"pinned": 1}', b'{"pinned": true, "more": 1}'):
            self.assertEqual(self.world.ask("POST", "/api/v1/images/a/pin", wrong).status, 400, wrong)

    def test_collect(self) -> None:
        """
        A collection deletes files unless the request is a dry run.  What is kept for
        engines is listed, and what holds space.
        """
        self.world.store.gc.kept = [KeptFor("podman", 3, 700, ("container a",))]
        made = image()
        self.world.store.images.named[made.reference] = made
        self.world.jobs.others = 2
        for body, dry_run in ((b"{}", False), (b'{"dry_run": true}', True)):
            shown = self.world.ask("POST", "/api/v1/gc", body).json()
            self.assertEqual((shown["dry_run"], shown["freed"]["bytes"]), (dry_run, 900))
            self.assertEqual(
                shown["kept"], [{"user": "podman", "layers": 3, "bytes": 700, "by": ["container a"]}]
            )
            usage = {"blobs": 10, "arriving": 20, "trees": 30}
            self.assertEqual(shown["held"], {"images": 1, "repositories": 0, "jobs": 2, **usage})
        for body in (
            b"",
            b"[]",
            b'{"dry_run": 1}',
            b'{"dry": true}',
            b'{"without": ["alpine"]}',
            b'{"dry_run": true, "without": "alpine"}',
            b'{"dry_run": true, "without": [""]}',
            json.dumps({"dry_run": True, "without": ["a"] * 101}).encode(),
        ):
            self.assertEqual(self.world.ask("POST", "/api/v1/gc", body).status, 400, body)
        body = b'{"dry_run": true, "without": ["alpine", "a/b:1"]}'
        self.assertEqual(self.world.ask("POST", "/api/v1/gc", body).status, 200)
        self.assertEqual(self.world.jobs.image_admin.without, ["alpine", "a/b:1"])
        many = json.dumps(
            {"dry_run": True, "without": [f"registry.example.com/team/{n:0100}" for n in range(100)]}
        )
        self.assertEqual(self.world.ask("POST", "/api/v1/gc", many.encode()).status, 200)
        self.assertEqual(self.world.ask("POST", "/api/v1/gc", b"{}", {"Content-Type": None}).status, 415)
        self.world.ask("POST", "/api/v1/gc", b'{"partials": true}')
        self.assertEqual(
            self.world.jobs.image_admin.collected,
            [(False, False), (True, False), (True, False), (True, False), (False, True)],
        )

    def test_image_for_a_platform(self) -> None:
        """
        A request for a platform is refused if the image has another one.
        """
        made = image()
        self.world.store.images.named[made.reference] = made
        for query, status, code in [
            ("platform=linux/amd64", 200, None),
            ("platform=linux/x86_64", 200, None),
            ("platform=linux/arm64", 422, "PLATFORM_UNKNOWN"),
            ("platform=linux", 400, "PLATFORM_INVALID"),
            ("platform=%ff", 400, "PLATFORM_INVALID"),
            ("arch=amd64", 400, "BAD_INPUT"),
        ]:
            answer = self.world.ask("GET", f"/api/v1/images/alpine?{query}")
            error = answer.json().get("error", {})
            self.assertEqual((answer.status, error.get("code")), (status, code), query)
        self.assertIn(
            "the store has alpine:latest for linux/amd64, not for linux/arm64; "
            "'xferctl pull --platform linux/arm64' gets it",
            self.world.ask("GET", "/api/v1/images/alpine?platform=linux/arm64").json()["error"]["message"],
        )

    def test_image_unknown(self) -> None:
        """
        An unknown image is a 404, an invalid name a 400.
        """
        for name, status, code in [
            ("busybox", 404, "NOT_FOUND"),
            ("UPPER", 400, "NAME_INVALID"),
            ("a//b", 400, "NAME_INVALID"),
        ]:
            answer = self.world.ask("GET", f"/api/v1/images/{name}")
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (status, code), name)

    def test_engines(self) -> None:
        """
        The engines are listed with their images and problems.
        """
        use = EngineImageJSON(image="docker.io/library/debian:12", layers=1, containers=2, by="")
        broken = FakeEngine("k3s", started=fail(ConfigError("the socket is in use")))
        world = World(engines=[FakeEngine("node", images=[use]), broken])
        Deferred.fromCoroutine(world.engines.start())  # type: ignore[unused-awaitable]
        node, k3s = world.ask("GET", "/api/v1/engines").json()
        self.assertEqual(node["images"], [use])
        self.assertEqual((node["name"], node["state"], node["problem"]), ("node", "serving", None))
        self.assertEqual(
            (k3s["name"], k3s["state"], k3s["problem"]), ("k3s", "failed", "the socket is in use")
        )

    def test_fleet(self) -> None:
        """
        The fleet is described; without one, its state is C{off}.
        """
        self.assertEqual(self.world.ask("GET", "/api/v1/fleet").json(), NO_FLEET)
        fleet = FakeFleet()
        fleet.state["state"], fleet.state["problem"] = ALONE, "etcd does not answer"
        verifyObject(IFleet, fleet)
        found = World(fleet=fleet).ask("GET", "/api/v1/fleet").json()
        self.assertEqual((found["state"], found["problem"]), ("alone", "etcd does not answer"))

    def test_prefetch_in_fleet(self) -> None:
        """
        Other nodes prefetch an image; malformed requests, and those without a fleet, are a 400.
        """
        fleet = FakeFleet(begun=succeed([{"node": "n2", "job": "j2"}]))
        world = World(fleet=fleet)
        body = json.dumps({"reference": "alpine", "nodes": 2}).encode()
        answer = world.ask("POST", "/api/v1/fleet/prefetch", body)
        self.assertEqual((answer.status, answer.json()), (202, {"nodes": [{"node": "n2", "job": "j2"}]}))
        self.assertEqual(fleet.calls, [("alpine", None, 2)])
        self.assertEqual(self.world.ask("POST", "/api/v1/fleet/prefetch", body).status, 400)
        for nodes in (0, 1001, "2", True, None):
            wrong = json.dumps({"reference": "alpine", "nodes": nodes}).encode()
            self.assertEqual(world.ask("POST", "/api/v1/fleet/prefetch", wrong).status, 400)
        lost = World(fleet=FakeFleet(begun=fail(CoordinationUnavailable("etcd does not answer"))))
        answer = lost.ask("POST", "/api/v1/fleet/prefetch", body)
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "FLEET_UNAVAILABLE"))

    def test_forget(self) -> None:
        """
        An engine without settings is forgotten; another one is a 409, an unknown one a 404.
        """
        store = FakeStore(self.world.clock)
        table = store.snapshots.of("old")
        table.set(1, Snapshot(1, "a", Kind.ACTIVE, "", 0, 0))
        world = World(engines=[FakeEngine("node")], former=FormerEngines(store, ["node"]))
        for name, status in (("node", 409), ("other", 404)):
            self.assertEqual(world.ask("DELETE", f"/api/v1/engines/{name}").status, status)
        listed = world.ask("GET", "/api/v1/engines").json()
        self.assertEqual([(each["name"], each["path"]) for each in listed], [("node", "/s"), ("old", "")])
        connection = world.connect()
        connection.send("DELETE", "/api/v1/engines/old", {"Host": "localhost:9337"})
        self.world.clock.advance(0)
        answer = connection.answer()
        self.assertEqual((answer.status, answer.json()), (200, {"name": "old", "snapshots": 1}))

    def test_fill(self) -> None:
        """
        An engine is filled, with the client's own credentials.
        """
        filled = FilledJSON(image="a", namespaces=["default"], blobs=3, written=2, bytes=7)
        node = FakeEngine("node", filled=succeed(filled))
        world = World(engines=[node])
        body = b'{"reference": "r.example/app", "namespace": "k8s.io"}'
        auth = urlsafe_b64encode(b'{"username": "ann", "password": "p"}').decode()
        answer = world.ask("POST", "/api/v1/engines/node/fill", body, {"X-Registry-Auth": auth})
        self.assertEqual((answer.status, answer.json()), (200, filled))
        credentials = {"r.example": Credentials("ann", Secret("p"))}
        self.assertEqual(node.calls, [("r.example/app:latest", "k8s.io", "127.0.0.1", credentials)])

    def test_fill_followed(self) -> None:
        """
        A client that accepts events gets the progress, and the result at the end; one
        that leaves ends the fill.
        """
        body = b'{"reference": "a"}'
        lines = {
            "Host": "localhost:9337",
            "Accept": "application/x-ndjson",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        node = FakeEngine("node")
        world = World(engines=[node])
        connection = world.connect()
        connection.send("POST", "/api/v1/engines/node/fill", lines, body)
        node.progress(3, 7)
        world.clock.pump([0.2] * 10)
        self.assertIn(b'{"kind":"fill","data":{"bytes":3,"size":7},"final":false', connection.received())
        filled = FilledJSON(image="a", namespaces=[], blobs=0, written=0, bytes=0)
        node.filled.callback(filled)
        world.clock.pump([0.2] * 10)
        self.assertIn(b'"final":true', connection.received())
        ended: list[object] = []
        left = FakeEngine("node", filled=Deferred(ended.append))
        world = World(engines=[left])
        connection = world.connect()
        connection.send("POST", "/api/v1/engines/node/fill", lines, body)
        connection.lose()
        world.clock.pump([0.2] * 10)
        self.assertEqual(ended, [left.filled])

    def test_fill_refused(self) -> None:
        """
        Unknown engines are a 404, malformed requests a 400, an engine's failure a 502.
        """
        for name, body, status, code in (
            ("other", {"reference": "a"}, 404, "NOT_FOUND"),
            ("node", {"reference": "A"}, 400, "NAME_INVALID"),
            ("node", {}, 400, "BAD_INPUT"),
            ("node", {"reference": "a", "namespace": ""}, 400, "BAD_INPUT"),
            ("node", {"reference": "a", "namespace": "x" * 77}, 400, "BAD_INPUT"),
            ("node", {"reference": "a"}, 502, "ENGINE_FAILED"),
        ):
            node = FakeEngine("node", filled=fail(EngineFailed("containerd node: no")))
            world = World(engines=[node])
            answer = world.ask("POST", f"/api/v1/engines/{name}/fill", json.dumps(body).encode())
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (status, code), body)
            _ = node.filled.addErrback(lambda _: None)

    def test_examination(self) -> None:
        """
        The checks of the installation are returned.
        """
        answer = self.world.ask("GET", "/api/v1/doctor")
        self.assertEqual((answer.status, answer.json()), (200, {"checks": []}))

    def test_status(self) -> None:
        """
        The status consists of the figures of the jobs and those of the daemon.
        """
        status = self.world.ask("GET", "/api/v1/status").json()
        self.assertEqual(
            {k: status[k] for k in ("version", "started", "images", "jobs", "bytes_fetched", "bytes_sent")},
            {
                "version": "1.2.3",
                "started": "2026-01-02T00:00:00Z",
                "images": 0,
                "jobs": {"running": 0},
                "bytes_fetched": 1,
                "bytes_sent": 3,
            },
        )
        self.assertEqual(status["disk"]["path"], "/")
        self.assertGreaterEqual(status["disk"]["total"], status["disk"]["free"])

    def test_disk_unknown(self) -> None:
        """
        An error in reading the disk's usage leaves the rest of the status.
        """
        self.world.store.path = "/does/not/exist"
        status = self.world.ask("GET", "/api/v1/status").json()
        self.assertEqual(status["disk"], {"path": "/does/not/exist", "free": None, "total": None, "why": ""})


class RoutingTests(SynchronousTestCase):
    """
    Paths and methods in general.
    """

    def test_health(self) -> None:
        """
        The daemon is healthy, and ready until it stops.
        """
        world = World()
        self.assertEqual(world.ask("GET", "/healthz").status, 200)
        self.assertEqual(world.ask("GET", "/readyz").status, 200)
        self.successResultOf(world.web.stop())
        self.assertEqual(world.ask("GET", "/healthz").status, 200)
        self.assertEqual(world.ask("GET", "/readyz").status, 503)

    def test_nothing_there(self) -> None:
        """
        Unknown paths are 404 in JSON; duplicate slashes are not corrected.
        """
        for path in (
            "/api/v2/jobs",
            "/api/v1/jobs/",
            "/api//v1/jobs",
            "/nope",
            "/static/nope.js",
            "/%3Cb%3E",
        ):
            answer = World().ask("GET", path)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (404, "NOT_FOUND"), path)

    def test_wrong_method(self) -> None:
        """
        An unsupported method is refused with the supported ones.
        """
        answer = World().ask("PUT", "/api/v1/jobs")
        self.assertEqual(answer.status, 405)
        self.assertEqual(answer.headers["allow"], "GET, HEAD, POST")
        self.assertEqual(answer.json()["error"]["code"], "METHOD_NOT_ALLOWED")

    def test_head(self) -> None:
        """
        The response to HEAD has the headers of the body and no body.
        """
        for path in ("/", "/api/v1/jobs", "/healthz"):
            answer = World().ask("HEAD", path)
            self.assertEqual((answer.status, answer.body), (200, b""), path)
            self.assertGreater(int(answer.headers["content-length"]), 0)

    def test_head_of_events(self) -> None:
        """
        HEAD for a stream follows no events.
        """
        world = World()
        answer = world.ask("HEAD", "/api/v1/events")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(world.jobs.streams[0][1].closed, 1)

    def test_keep_alive(self) -> None:
        """
        One connection serves several requests in order.
        """
        connection = World().connect()
        for _ in range(3):
            connection.send("GET", "/healthz", {"Host": "localhost"})
            self.assertEqual(connection.answer().json(), {"status": "ok"})
