"""
Tests for L{xferd.ctl.auth_file}.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl import auth_file
from xferd.ctl.auth_file import AuthFile
from xferd.errors import ConfigError

HELPER = f"""#!{sys.executable}
import json, os, sys
path = os.environ["KEPT"]
text = sys.stdin.read()
with open(path, "a") as kept:
    print(json.dumps([sys.argv[1], text, open("/proc/self/cmdline").read()]), file=kept)
if "bad.example" in text:
    print("the store is locked")
    raise SystemExit(1)
if sys.argv[1] == "erase" and "gone.example" in text:
    print("credentials not found in native keychain")
    raise SystemExit(1)
"""


class AuthFileTests(SynchronousTestCase):
    """
    Tests for L{AuthFile}.
    """

    def setUp(self) -> None:
        """
        Choose a file, and make a helper.
        """
        self.directory = Path(self.mktemp()).absolute()
        self.path = self.directory / "sub/config.json"
        self.kept = self.directory / "kept"
        self.directory.mkdir()
        helper = self.directory / "docker-credential-keep"
        helper.write_text(HELPER)
        helper.chmod(0o755)
        self.environ = {"PATH": str(self.directory), "KEPT": str(self.kept)}
        self.file = AuthFile(str(self.path), self.environ)

    def write(self, value: object) -> None:
        """
        Write the file.
        """
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(value))

    @property
    def value(self) -> Any:
        """
        The file's content.
        """
        return json.loads(self.path.read_text())

    def helped(self) -> list[tuple[str, object]]:
        """
        The helper's recorded calls; its command line has the action alone.
        """
        found = []
        for line in self.kept.read_text().splitlines():
            action, text, command = json.loads(line)
            self.assertNotIn("hunter2", command)
            found.append((action, json.loads(text) if action == "store" else text))
        return found

    def test_absent(self) -> None:
        """
        A missing file counts as empty, also if its directory is not a directory.
        """
        for path in (self.path, "/dev/null/config.json"):
            self.assertEqual(AuthFile(str(path), self.environ).read().auths, {})

    def test_new(self) -> None:
        """
        A missing file is created with mode 0600, in docker's format.
        """
        self.assertEqual(self.file.store("h", "me", "hunter2"), f"{self.path} stores the password")
        self.assertEqual(
            self.path.read_text(),
            '{\n\t"auths": {\n\t\t"h": {\n\t\t\t"auth": "bWU6aHVudGVyMg=="\n\t\t}\n\t}\n}',
        )
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        self.assertEqual(os.listdir(self.path.parent), ["config.json"])
        found = self.file.read().auths["h"]
        self.assertEqual((found.username, found.password.reveal()), ("me", "hunter2"))

    def test_rest(self) -> None:
        """
        All other content is kept, in its order; other spellings of the same registry are
        removed.
        """
        self.write(
            {
                "HttpHeaders": {"é": "x"},
                "auths": {
                    "other": {"auth": "eDp5"},
                    "docker.io": {"auth": "eDp5"},
                    "https://index.docker.io/v1/": {},
                    "docker.io/team": {"auth": "eDp5"},
                },
                "detachKeys": "ctrl-e",
            }
        )
        self.file.store("docker.io", "me", "hunter2")
        self.assertEqual(
            self.value,
            {
                "HttpHeaders": {"é": "x"},
                "auths": {
                    "other": {"auth": "eDp5"},
                    "docker.io": {"auth": "bWU6aHVudGVyMg=="},
                    "docker.io/team": {"auth": "eDp5"},
                },
                "detachKeys": "ctrl-e",
            },
        )
        self.assertIn("é", self.path.read_text())
        self.assertTrue(self.file.erase("docker.io"))
        self.assertEqual(
            self.value["auths"],
            {"other": {"auth": "eDp5"}, "docker.io/team": {"auth": "eDp5"}},
        )
        self.assertFalse(self.file.erase("docker.io"))

    def test_hub(self) -> None:
        """
        Docker Hub gets docker's own name for it.
        """
        self.file.store("docker.io", "me", "p")
        self.assertIn("https://index.docker.io/v1/", self.path.read_text())

    def test_link(self) -> None:
        """
        A symbolic link stays one.
        """
        target = self.directory / "target.json"
        self.path.parent.mkdir()
        self.path.symlink_to(target)
        self.file.store("h", "me", "p")
        self.assertTrue(self.path.is_symlink())
        self.assertIn("auths", target.read_text())

    def test_bad(self) -> None:
        """
        A file that cannot be parsed is left alone, and named.
        """
        self.path.parent.mkdir()
        self.path.write_text("{")
        for use in (lambda: self.file.store("h", "me", "p"), lambda: self.file.erase("h")):
            self.assertIn(f"{self.path}, line 1", str(self.assertRaises(ConfigError, use)))
        self.assertEqual(self.path.read_text(), "{")
        folder = AuthFile(str(self.directory), {})
        self.assertIn("cannot be read", str(self.assertRaises(ConfigError, folder.read)))

    def test_unwritable(self) -> None:
        """
        A file that cannot be written is named, and no temporary file is left.
        """
        (self.directory / "plain").write_text("")
        file = AuthFile(str(self.directory / "plain/config.json"), {})
        self.assertRaises(ConfigError, file.store, "h", "me", "p")
        self.path.mkdir(parents=True)
        self.assertRaises(ConfigError, self.file.store, "h", "me", "p")
        self.assertEqual(os.listdir(self.path.parent), ["config.json"])
        nowhere = AuthFile("/proc/nowhere/config.json", {})
        error = self.assertRaises(ConfigError, nowhere.store, "h", "me", "p")
        self.assertIn("/proc/nowhere/config.json cannot be written", str(error))

    def test_helper(self) -> None:
        """
        If the file names a helper, the helper stores the password, and the file has an empty
        entry, as with docker.
        """
        self.write({"credsStore": "keep", "credHelpers": {"own.example": ""}})
        kept = self.file.store("docker.io", "me", "hunter2")
        self.assertEqual(kept, "docker-credential-keep stores the password")
        server = "https://index.docker.io/v1/"
        self.assertEqual(
            self.helped(), [("store", {"ServerURL": server, "Username": "me", "Secret": "hunter2"})]
        )
        self.assertIn(f'"{server}": {{}}', self.path.read_text())
        self.assertNotIn("hunter2", self.path.read_text())
        self.assertTrue(self.file.erase("docker.io"))
        self.assertEqual(self.helped()[1:], [("erase", server)])
        self.file.store("own.example", "me", "hunter2")
        self.assertEqual(len(self.helped()), 2)

    def test_helper_of_host(self) -> None:
        """
        A helper of one host erases its credentials, also if the file has no entry; a missing
        entry is no error.
        """
        self.write({"credHelpers": {"gone.example": "keep"}})
        self.assertTrue(self.file.erase("gone.example"))
        self.assertEqual(self.helped(), [("erase", "gone.example")])

    def test_helper_hangs(self) -> None:
        """
        A helper that hangs, or cannot be run, is named.
        """
        self.write({"credsStore": "odd"})
        helper = self.directory / "docker-credential-odd"
        helper.mkdir()
        error = str(self.assertRaises(ConfigError, self.file.store, "h", "me", "hunter2"))
        self.assertIn("cannot be run", error)
        helper.rmdir()
        helper.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
        helper.chmod(0o755)
        self.patch(auth_file, "HELPER_LIMIT", 0.1)
        error = self.assertRaises(ConfigError, self.file.store, "h", "me", "hunter2")
        self.assertIn("did not end within 0.1 s", str(error))
        self.assertIsNone(error.__cause__)

    def test_helper_fails(self) -> None:
        """
        A helper that fails is named with the file, and nothing is written.
        """
        for name, words in (
            ("keep", "failed with status 1: the store is locked"),
            ("none", "is not in PATH"),
        ):
            self.write({"credsStore": name})
            before = self.path.read_text()
            error = str(self.assertRaises(ConfigError, self.file.store, "bad.example", "me", "hunter2"))
            self.assertIn(f"docker-credential-{name}, which {self.path} names, {words}", error)
            self.assertNotIn("hunter2", error)
            self.assertEqual(self.path.read_text(), before)
