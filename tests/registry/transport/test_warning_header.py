"""
Tests for L{xferd.registry.transport.warning_header}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import lists, text
from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.transport.warning_header import MAX_WARNINGS_SIZE, parse_warnings


class ParseTests(SynchronousTestCase):
    """
    C{Warning} headers.
    """

    def test_read(self) -> None:
        """
        Each text is read once, from several headers and from one list.
        """
        for values in (
            ['299 - "gone soon"', '299 - "read this"', '299 - "gone soon"'],
            ['299 - "gone soon", 299 - "read this"'],
            [' 299 - "gone soon" ,299 - "read this" '],
        ):
            self.assertEqual(parse_warnings(values), ("gone soon", "read this"))

    def test_quoted(self) -> None:
        """
        What is escaped in a quoted string is read without the escape.
        """
        self.assertEqual(parse_warnings([r'299 - "say \"1.2\", not \\1"']), ('say "1.2", not \\1',))

    def test_date(self) -> None:
        """
        A date behind the text, as HTTP once had it, does no harm.
        """
        self.assertEqual(parse_warnings(['299 - "old" "Sat, 25 Aug 2012 23:34:45 GMT"']), ("old",))

    def test_others(self) -> None:
        """
        Other codes, other agents, and what cannot be read are left out.
        """
        for value in ('199 - "x"', '299 proxy "x"', "299 - x", '299 - "x', '299 - ""', "", "299"):
            self.assertEqual(parse_warnings([value]), ())
        self.assertEqual(parse_warnings(['110 cache "stale", 299 - "ours"']), ("ours",))

    def test_harmless(self) -> None:
        """
        Control characters and the queries of signed URLs are not shown.
        """
        self.assertEqual(
            parse_warnings(['299 - "\x1b[1msee https://x.example/a?token=1\nnow"']),
            ("[1msee https://x.example/a?... now",),
        )

    def test_too_much(self) -> None:
        """
        Of all together, 4096 bytes are read.
        """
        long = "x" * (MAX_WARNINGS_SIZE - len('299 - ""'))
        self.assertEqual(parse_warnings([f'299 - "{long}"', '299 - "more"']), (long,))
        self.assertEqual(parse_warnings([f'299 - "{long}x"', '299 - "more"']), ())
        many = [f'299 - "{n:0100}"' for n in range(100)]
        self.assertEqual(len(parse_warnings(many)), MAX_WARNINGS_SIZE // len(many[0]))

    @given(lists(text(alphabet='29 -",\\x\n', max_size=40), max_size=4))
    def test_anything(self, values: list[str]) -> None:
        """
        Whatever comes, it is read or left out, and nothing else happens.
        """
        for warning in parse_warnings(values):
            self.assertNotIn("\n", warning)
