"""
Tests for L{xferd.webhooks.signature}, and for the program in the documentation that verifies
signatures.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.webhooks.signature import key_of, signed_headers

DOCS = Path(__file__).parents[2] / "docs" / "webhooks.rst"

STANDARD_SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def verifier() -> Any:
    """
    The function in the documentation.
    """
    found = re.search(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", DOCS.read_text())
    assert found is not None
    names: dict[str, Any] = {}
    exec(dedent(found[1]), names)
    return names["verify"]


class SignatureTests(SynchronousTestCase):
    """
    L{signed_headers}.
    """

    def test_standard(self) -> None:
        """
        The example of "Standard Webhooks".
        """
        headers = signed_headers(
            [STANDARD_SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
        )
        self.assertEqual(headers["Webhook-Signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        self.assertEqual(headers["Webhook-Timestamp"], "1614265330")

    def test_keys(self) -> None:
        """
        A secret that is no base64 is the key itself.
        """
        self.assertEqual(len(key_of(STANDARD_SECRET)), 24)
        for secret in (b"plain text", b"whsec_!!"):
            self.assertEqual(key_of(secret), secret)

    def test_documented(self) -> None:
        """
        The documented function accepts what is signed with any of the secrets, and refuses
        other bodies, IDs, secrets and times.
        """
        verify = verifier()
        body, now = b'{"type": "job.done"}', 1_700_000_000
        headers = dict(signed_headers([b"new" * 8, b"old" * 8], "j1-ab", now, body))
        for secret in (b"new" * 8, b"old" * 8):
            self.assertTrue(verify(secret, headers, body, now + 10))
        self.assertFalse(verify(b"other" * 8, headers, body, now))
        self.assertFalse(verify(b"new" * 8, headers, body + b" ", now))
        self.assertFalse(verify(b"new" * 8, {**headers, "Webhook-Id": "j2-ab"}, body, now))
        self.assertFalse(verify(b"new" * 8, headers, body, now + 301))
        self.assertFalse(verify(b"new" * 8, {**headers, "Webhook-Timestamp": str(now + 1)}, body, now))
        standard = signed_headers([STANDARD_SECRET], "j1-ab", now, body)
        self.assertTrue(verify(STANDARD_SECRET, standard, body, now))
