# -*- test-case-name: tests.ctl.image.test_users -*-
"""
Tests for L{xferd.ctl.image.users}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.image.users import UnknownUser, User, find_user

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# a comment:x:9:9::/:
broken
bad:x:one:two::/:
app:x:1000:1001::/home/app:/bin/sh
app:x:7:7::/other:
short:x:5:5
caf\xe9:x:6:6::/cafe:
"""
GROUP = b"""root:x:0:root,app
app:x:1001:
video:x:44:other,app
none:x:50
bad:x:many:app
1234:x:60:
"""


class FindUserTests(SynchronousTestCase):
    """
    Tests for L{find_user}.
    """

    def test_forms(self) -> None:
        """
        Every form of the specification yields user, groups and home.
        """
        for wanted, expected in {
            "": User(0, 0, (0,), "/root"),
            "root": User(0, 0, (0,), "/root"),
            "app": User(1000, 1001, (1001, 0, 44), "/home/app"),
            "1000": User(1000, 1001, (1001, 0, 44), "/home/app"),
            "app:video": User(1000, 44, (44,), "/home/app"),
            "app:77": User(1000, 77, (77,), "/home/app"),
            "app:1234": User(1000, 1234, (1234,), "/home/app"),
            "4000": User(4000, 0, (0,)),
            "4000:video": User(4000, 44, (44,)),
            "4000:5000": User(4000, 5000, (5000,)),
            "short": User(5, 5, (5,)),
            "app:": User(1000, 1001, (1001, 0, 44), "/home/app"),
        }.items():
            self.assertEqual(find_user(wanted, PASSWD, GROUP), expected, wanted)

    def test_no_files(self) -> None:
        """
        Numeric IDs need no files, and root always exists.
        """
        self.assertEqual(find_user("", b"", b""), User(0, 0, (0,)))
        self.assertEqual(find_user("12:34", b"", b""), User(12, 34, (34,)))

    def test_unknown(self) -> None:
        """
        An unknown user is named, and so is an invalid number.
        """
        for wanted, said in {
            "nobody": "user 'nobody'",
            "bad": "user 'bad'",
            "app:staff": "group 'staff'",
            "2147483648": "above 2147483647",
            "0:99999999999": "above 2147483647",
            "-1": "user '-1'",
            "9" * 30: "user '999",
        }.items():
            error = self.assertRaises(UnknownUser, find_user, wanted, PASSWD, GROUP)
            self.assertIn(said, str(error))
