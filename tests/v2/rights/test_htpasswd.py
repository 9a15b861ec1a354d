"""
Tests for L{xferd.v2.rights.htpasswd}.
"""

from __future__ import annotations

import os

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.v2.rights.users import write_htpasswd
from xferd.errors import ConfigError
from xferd.v2.rights.htpasswd import HtpasswdFile, parse_htpasswd

HASH = "$2y$05$vutNOz3V.mTOQU0j2NkuOes.vxqsmrAzwD.yKJWjr.Qrc1QPS6XuG"


class ParseTests(SynchronousTestCase):
    """
    The content of the file.
    """

    def test_users(self) -> None:
        """
        Comments and empty lines are ignored.
        """
        text = f"# users\n\nann:{HASH}\r\nbob:{HASH.replace('2y', '2b')}\n"
        self.assertEqual(list(parse_htpasswd(text, "f")), ["ann", "bob"])

    def test_refused(self) -> None:
        """
        Other hashes, excessive costs and malformed lines are refused, with the line
        and without the hash.
        """
        for line, why in (
            ("ann", "expected USER:HASH"),
            (f":{HASH}", "expected USER:HASH"),
            ("ann:$apr1$xyz$9T2.hash", "not hashed by bcrypt; 'htpasswd -B f ann' does that"),
            ("ann:{SHA}hash", "not hashed by bcrypt"),
            (f"ann:{HASH}x", "not hashed by bcrypt"),
            (f"ann:{HASH.replace('$05', '$31')}", "the bcrypt cost of 'ann' is 31; it must be from 4 to 14"),
        ):
            error = str(self.assertRaises(ConfigError, parse_htpasswd, f"bob:{HASH}\n{line}\n", "f"))
            self.assertIn("f, line 2: ", error)
            self.assertIn(why, error)
            self.assertNotIn("hash.", error)


class FileTests(SynchronousTestCase):
    """
    The file on disk.
    """

    def test_changes(self) -> None:
        """
        A change is seen; if the file becomes unusable, that is logged once, and its
        previous users remain.
        """
        path = write_htpasswd(self.mktemp(), {"ann": "x"})
        file = HtpasswdFile(path)
        self.assertEqual(list(file.load()), ["ann"])
        write_htpasswd(path, {"ann": "x", "bob": "y"})
        os.utime(path, ns=(1, 1))
        self.assertEqual(list(file.current()), ["ann", "bob"])
        with open(path, "a") as opened:
            opened.write("zoe:plain\n")
        with capturedLogs() as events:
            for _ in range(2):
                self.assertEqual(list(file.current()), ["ann", "bob"])
        self.assertEqual(len(events), 1)

    def test_unusable(self) -> None:
        """
        A file that is missing, not text or too large is refused at the start.
        """
        path = self.mktemp()
        self.assertIn(f"{path}: No such file", str(self.assertRaises(ConfigError, HtpasswdFile(path).load)))
        for data, why in ((b"\xff\xfe", "not UTF-8"), (b"#" * 1_048_577, "more than 1048576 bytes")):
            with open(path, "wb") as file:
                file.write(data)
            self.assertIn(why, str(self.assertRaises(ConfigError, HtpasswdFile(path).load)))

    def test_none(self) -> None:
        """
        Without a file there are no users.
        """
        self.assertEqual(HtpasswdFile("").current(), {})
