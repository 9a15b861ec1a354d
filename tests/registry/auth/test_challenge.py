"""
Tests for L{xferd.registry.auth.challenge}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.registry.auth.challenge import MAX_CHALLENGES, MAX_HEADER, Challenge, parse_challenges

_TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12)
_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
_CHALLENGES = st.lists(
    st.tuples(_TOKENS, st.dictionaries(_TOKENS, _VALUES, min_size=1, max_size=4)), max_size=4
)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class ParseChallengesTests(SynchronousTestCase):
    """
    L{parse_challenges} reads what registries send.
    """

    def test_docker_hub(self) -> None:
        """
        Docker Hub's challenge, with a comma inside a quoted string.
        """
        header = (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
            'scope="repository:library/alpine:pull,push"'
        )
        (found,) = parse_challenges([header])
        self.assertEqual(found.scheme, "bearer")
        self.assertEqual(
            dict(found.parameters),
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:library/alpine:pull,push",
            },
        )

    def test_several_in_one_header(self) -> None:
        """
        Several challenges share a header, as in RFC 9110's own example.
        """
        found = parse_challenges(
            ['Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"']
        )
        self.assertEqual([c.scheme for c in found], ["newauth", "basic"])
        self.assertEqual(found[0].parameters["title"], 'Login to "apps"')
        self.assertEqual(found[1].parameters, {"realm": "simple"})

    def test_several_headers(self) -> None:
        """
        Each header has challenges of its own.
        """
        found = parse_challenges(['BASIC Realm = "a"', "bearer realm=b"])
        self.assertEqual(found, (Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})))

    def test_schemes_without_parameters(self) -> None:
        """
        A scheme may stand alone, or have a token68 instead of parameters.
        """
        found = parse_challenges([", Negotiate, NTLM TlRMTVNTUA==, Other abc, Basic"])
        self.assertEqual([c.scheme for c in found], ["negotiate", "ntlm", "other", "basic"])
        self.assertTrue(all(c.parameters == {} for c in found))

    def test_unquoted_url(self) -> None:
        """
        Some registries forget the quotes around the realm.
        """
        (found,) = parse_challenges(["Bearer realm=https://auth.example/token?a=b,service=x"])
        self.assertEqual(found.parameters, {"realm": "https://auth.example/token?a=b", "service": "x"})

    def test_first_of_two_equal(self) -> None:
        """
        Of a parameter that comes twice, the first counts.
        """
        (found,) = parse_challenges(['Bearer realm="a", realm="b"'])
        self.assertEqual(found.parameters, {"realm": "a"})

    def test_broken(self) -> None:
        """
        A malformed challenge ends its header; the challenges before it count.
        """
        self.assertEqual(parse_challenges(['Basic realm="open']), (Challenge("basic"),))
        self.assertEqual(parse_challenges(['realm="x"', "", '"', "=,="]), ())

    def test_long(self) -> None:
        """
        What stands behind the limit is not looked at.
        """
        found = parse_challenges(["Basic, " + " " * MAX_HEADER + "Bearer"])
        self.assertEqual(found, (Challenge("basic"),))

    def test_many(self) -> None:
        """
        The number of challenges is limited, in one header or in several.
        """
        for headers in (["a " * 8000], ["Basic"] * 200):
            self.assertEqual(len(parse_challenges(headers)), MAX_CHALLENGES)

    @given(_CHALLENGES)
    @settings(max_examples=60, deadline=None)
    def test_round_trip(self, challenges: list[tuple[str, dict[str, str]]]) -> None:
        """
        Whatever is written by the grammar is read back.
        """
        text = ", ".join(
            f"{scheme} " + ", ".join(f"{name}={_quoted(value)}" for name, value in parameters.items())
            for scheme, parameters in challenges
        )
        found = parse_challenges([text])
        self.assertEqual([(c.scheme, dict(c.parameters)) for c in found], challenges)

    @given(st.text(max_size=200))
    @settings(max_examples=100, deadline=None)
    def test_anything(self, text: str) -> None:
        """
        No text raises.
        """
        self.assertIsInstance(parse_challenges([text]), tuple)
