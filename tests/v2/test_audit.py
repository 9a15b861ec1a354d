"""
Tests for the lines of the registry's requests in the audit trail.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import capturedLogs

from tests.v2.rights.test_logins import ANN, WRONG, UsersCase
from tests.v2.rights.users import basic
from xferd.logs.records import record_of, to_json
from xferd.media_types import OCI_INDEX
from xferd.web.peer_trust import Trust

INDEX = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()


class RegistryTests(UsersCase):
    """
    Pushes, removals, and refusals.
    """

    def lines(
        self, path: str, method: str, headers: dict[str, str], body: bytes = b""
    ) -> list[dict[str, Any]]:
        """
        Send a request as a stranger.

        @return: its lines, as the log has them in JSON.
        """
        sent = {"Host": "r.lan:5000", **headers}
        with capturedLogs() as events:
            self.request(path, method, sent, body, Trust.NONE)
        return [to_json(record_of(event)) for event in events if event.get("event") == "audit"]

    def test_push(self) -> None:
        """
        A manifest that is pushed, and one that is deleted, have lines with the user; the
        chunks of a blob have none.
        """
        typed = {**ANN, "Content-Type": OCI_INDEX}
        (line,) = self.lines("/v2/local/ann/app/manifests/1", "PUT", typed, INDEX)
        expected = {
            "action": "put_manifest",
            "account": "ann",
            "door": "registry",
            "listener": "127.0.0.1:5000",
            "method": "PUT",
            "path": "/v2/local/ann/app/manifests/1",
            "status": 201,
            "code": "",
            "body": "",
        }
        self.assertEqual({name: line[name] for name in expected}, expected)
        self.assertIn(" by registry: PUT /v2/local/ann/app/manifests/1: 201, account ann", line["message"])
        self.assertNotIn(ANN["Authorization"].partition(" ")[2], json.dumps(line))
        self.assertEqual(self.lines("/v2/local/ann/app/blobs/uploads/", "POST", ANN), [])
        (line,) = self.lines("/v2/local/ann/app/manifests/1", "DELETE", ANN)
        self.assertEqual(
            (line["action"], line["account"], line["code"]), ("delete_manifest", "ann", "DENIED")
        )

    def test_refused(self) -> None:
        """
        A push without the right, and a wrong password, have lines with the code; the
        challenge to a client without credentials has none.
        """
        path = "/v2/local/ann/app/manifests/1"
        for headers, status, code, account in (
            (basic("bob", "other"), 403, "DENIED", "bob"),
            (WRONG, 401, "UNAUTHORIZED", ""),
        ):
            (line,) = self.lines(path, "PUT", {**headers, "Content-Type": OCI_INDEX}, INDEX)
            found = line["status"], line["code"], line["account"]
            self.assertEqual(found, (status, code, account))
        self.assertEqual(self.lines("/v2/", "GET", {}), [])
        self.assertEqual(self.lines(path, "GET", ANN), [])
