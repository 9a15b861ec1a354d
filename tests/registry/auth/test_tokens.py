"""
Tests for L{xferd.registry.auth.tokens}.  How waiting together behaves is tested
where it is used, with L{xferd.registry.auth.authenticator}.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.auth.tokens import DEFAULT_LIFE, parse_token


class ParseTokenTests(SynchronousTestCase):
    """
    Token servers' answers are read tolerantly.
    """

    def test_life(self) -> None:
        """
        A token is not used in its last tenth or its last 10 seconds;
        without C{expires_in} it is valid for a minute.
        """
        for text, life in (
            ("{}", DEFAULT_LIFE - 6),
            ('{"expires_in": 300}', 290),
            ('{"expires_in": 20}', 18),
            ('{"expires_in": 0}', DEFAULT_LIFE - 6),
            ('{"expires_in": "5"}', DEFAULT_LIFE - 6),
            ('{"expires_in": true}', DEFAULT_LIFE - 6),
        ):
            token = parse_token(json.dumps({"token": "t", **json.loads(text)}).encode(), 1000)
            assert token is not None
            self.assertEqual(token.expires, 1000 + life)
            self.assertNotIn("'t'", repr(token))

    def test_none(self) -> None:
        """
        An invalid token cannot become a header.
        """
        for body in (
            b"",
            b"[]",
            b"{}",
            b'{"token": 5}',
            b'{"token": "a\\r\\nb"}',
            b'{"token": "\\u00e9"}',
            b"\xff",
        ):
            self.assertIsNone(parse_token(body, 0))
