"""
Tests for L{xferd.web.openapi} and L{xferd.web.schemas}.

Every request in C{tests.web} checks that its response is documented: see
L{tests.web.world.World.ask}.
"""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import get_type_hints

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from tests.web.conformance import Undocumented, api, conforms, path_of, valid
from tests.web.fakes import TRANSFER, image, job
from tests.web.world import World
from xferd.interfaces.job_json import (
    AttemptJSON,
    ImageJSON,
    JobDetailsJSON,
    JobJSON,
    LayerJSON,
    TransferJSON,
)
from xferd.jobs.limits import bounds
from xferd.web.app import Web
from xferd.web.job_request import KINDS_OF_JOBS
from xferd.web.known_hosts import KnownHostJSON
from xferd.web.pagination import IMAGES, JOBS, TRANSFERS
from xferd.web.schemas import SCHEMAS


class DocumentTests(SynchronousTestCase):
    """
    The document itself.
    """

    def test_served(self) -> None:
        """
        The daemon serves the document unchanged.
        """
        answer = World().ask("GET", "/api/v1/openapi.json")
        self.assertEqual((answer.status, answer.json()), (200, api()))
        self.assertEqual(answer.json()["openapi"], "3.1.0")
        self.assertEqual(answer.json()["info"]["version"], "1.2.3")

    def test_routes(self) -> None:
        """
        The document has exactly the routes and methods of the server.
        """
        routes = {
            (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower(), rule.endpoint)
            for rule in Web.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
        known = {
            (path, method, operation["operationId"])
            for path, methods in api()["paths"].items()
            for method, operation in methods.items()
        }
        self.assertEqual(known, routes)

    def test_parameters(self) -> None:
        """
        Every parameter of a path is described, and no other.
        """
        for path, methods in api()["paths"].items():
            for operation in methods.values():
                required = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
                self.assertEqual(required, set(re.findall(r"\{(\w+)\}", path)))

    def test_filters(self) -> None:
        """
        The filters of every list are documented.
        """
        for path, known in (("jobs", JOBS), ("transfers", TRANSFERS), ("images", IMAGES)):
            parameters = api()["paths"][f"/api/v1/{path}"]["get"]["parameters"]
            names = {p["name"] for p in parameters if p["in"] == "query"}
            self.assertEqual(names, {*known.filters, "limit", "after"})

    def test_schemas(self) -> None:
        """
        Every schema is valid, and each referenced one exists.
        """
        schemas = api()["components"]["schemas"]
        for schema in schemas.values():
            Draft202012Validator.check_schema(schema)
        named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(api())))
        self.assertEqual(named - set(schemas), set())
        self.assertEqual(set(schemas) - named, set())

    def test_types(self) -> None:
        """
        The types in the Interface of the jobs have the fields of the schemas.
        """
        for name, shape in (
            ("Job", JobJSON),
            ("JobInFull", JobDetailsJSON),
            ("Layer", LayerJSON),
            ("Transfer", TransferJSON),
            ("Attempt", AttemptJSON),
            ("Image", ImageJSON),
            ("Host", KnownHostJSON),
        ):
            self.assertEqual(set(get_type_hints(shape)), set(SCHEMAS[name]["properties"]), name)

    def test_bodies(self) -> None:
        """
        The documented arguments of requests are those that are read: the fields
        of each kind of job, and the limits.
        """
        schemas = api()["components"]["schemas"]
        for kind, (_, body) in KINDS_OF_JOBS.items():
            self.assertEqual(schemas[f"{kind.capitalize()}Request"], body.to_schema())
        for name in ("Limits", "LimitChanges"):
            numbers = {
                limit: schema["anyOf"][0] if "anyOf" in schema else schema
                for limit, schema in schemas[name]["properties"].items()
            }
            found = {
                limit: (schema["minimum"], schema["maximum"])
                for limit, schema in numbers.items()
                if "minimum" in schema
            }
            self.assertEqual(found, bounds())

    def test_paths(self) -> None:
        """
        A path is matched as the routes match it: an image's name may end like a
        longer path.
        """
        for method, path, known in [
            ("POST", "/api/v1/images/team/app:1/tags", "/api/v1/images/{name}/tags"),
            ("DELETE", "/api/v1/images/team/tags", "/api/v1/images/{name}"),
            ("POST", "/api/v1/images/team/app:1", None),
            ("GET", "/api/v1/images?limit=1", "/api/v1/images"),
            ("GET", "/api/v1/jobs/j1/events", "/api/v1/jobs/{job_id}/events"),
        ]:
            self.assertEqual(path_of(method, path), known)


class AnswerTests(SynchronousTestCase):
    """
    Responses that no other test requests, and tests of the checks.
    """

    def test_strict(self) -> None:
        """
        A response with a missing or undocumented field, status or type fails
        the check.
        """
        headers = {"content-type": "application/json"}
        for status, value in [
            (200, {}),
            (200, {"status": "ok", "more": 1}),
            (200, {"status": "bad"}),
            (204, {"status": "ok"}),
            (400, {"status": "ok"}),
        ]:
            body = json.dumps(value).encode()
            self.assertRaises(Undocumented, conforms, "GET", "/healthz", status, headers, body)
        conforms("GET", "/healthz", 200, headers, b'{"status": "ok"}')
        self.assertRaises(Undocumented, conforms, "GET", "/healthz", 200, {"content-type": "text/plain"}, b"")

    def test_every_route(self) -> None:
        """
        Every GET is documented, for a server with an item of each kind.
        """
        world = World()
        self.addCleanup(world.close)
        world.jobs.known["j1"] = job(id="j1")
        world.jobs.running = [TRANSFER]
        world.store.images.put(image())  # type: ignore[unused-awaitable]
        names = {"job_id": "j1", "name": "alpine"}
        for path, methods in api()["paths"].items():
            if "get" in methods and not path.endswith("/events"):
                real = path.format(**names) if path != "/static/{name}" else "/static/main.js"
                self.assertEqual(world.ask("GET", real).status, 303 if path == "/enter" else 200, path)

    def test_events(self) -> None:
        """
        Every kind of event is documented.
        """
        schema = {"$ref": "#/components/schemas/Event"}
        shown = World()
        shown.store.images.put(image())  # type: ignore[unused-awaitable]
        (listed,) = shown.ask("GET", "/api/v1/images").json()
        removed = {"reference": listed["reference"], "removed": True}
        for kind, data in (("job", job()), ("transfer", TRANSFER), ("image", listed), ("image", removed)):
            valid(schema, {"kind": kind, "data": dict(data), "final": False})
            valid(schema, {"kind": kind, "data": dict(data), "final": True, "id": "x-1"})
        self.assertRaises(Undocumented, valid, schema, {"kind": "job", "data": {}, "final": False})

    def test_refusals(self) -> None:
        """
        Every refusal is an error object that is documented for its request.
        """
        world = World(trusted=False, token="t")
        paths = chain.from_iterable(
            ((path, method.upper()) for method in methods) for path, methods in api()["paths"].items()
        )
        for path, method in paths:
            real = path.format(job_id="j", name="alpine", host="docker.io")
            for headers in (
                {},
                {"Host": "evil.example"},
                {"Host": None},
                {"Origin": "http://evil.example"},
                {"Authorization": "Bearer t", "Content-Type": "text/plain"},
            ):
                if "events" not in path:
                    world.ask(method, real, b"{}", headers)
        self.assertEqual(World().ask("PUT", "/api/v1/jobs", b"{}").status, 405)
        self.assertEqual(World().ask("GET", "/api/v1/nothing").status, 404)
