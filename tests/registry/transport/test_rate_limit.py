"""
Tests for L{xferd.registry.transport.rate_limit}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from xferd.interfaces.hosts import Quota
from xferd.registry.transport.rate_limit import parse_quota

NOW = 1_372_700_000.0

NAMES = st.sampled_from(
    [
        "RateLimit",
        "RateLimit-Policy",
        *(f"{x}RateLimit-{part}" for x in ("", "X-") for part in ("Limit", "Remaining", "Reset")),
    ]
)
VALUES = st.lists(
    st.sampled_from([*',;="- .', "limit", "remaining", "reset", "r", "t", "q", "w", "7", "1e9", "9" * 13])
).map("".join) | st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=30)


def parse(**fields: str) -> Quota | None:
    """
    Parse the headers of a response, whose names have C{_} for C{-}.
    """
    return parse_quota(Headers({name.replace("_", "-"): [value] for name, value in fields.items()}), NOW)


class QuotaTests(SynchronousTestCase):
    """
    L{parse_quota}.
    """

    def test_docker_hub(self) -> None:
        """
        Docker Hub names its window, and no reset.
        """
        self.assertEqual(
            parse(
                ratelimit_limit="100;w=21600",
                ratelimit_remaining="76;w=21600",
                docker_ratelimit_source="192.0.2.1",
            ),
            Quota(76, 100, 21600.0),
        )

    def test_early_drafts(self) -> None:
        """
        Three headers, with a policy or without.
        """
        three = {"RateLimit_Limit": "100", "RateLimit_Remaining": "50", "RateLimit_Reset": "30"}
        self.assertEqual(parse(**three), Quota(50, 100, None, 30.0))
        self.assertEqual(parse(**three, RateLimit_Policy="100;w=60"), Quota(50, 100, 60.0, 30.0))
        self.assertEqual(
            parse(**{**three, "RateLimit_Limit": "100, 100;w=60;burst=1000, 5000;w=3600"}),
            Quota(50, 100, 60.0, 30.0),
        )

    def test_draft_7(self) -> None:
        """
        One header with three numbers, in any order.
        """
        self.assertEqual(parse(RateLimit="limit=100, remaining=50, reset=30"), Quota(50, 100, None, 30.0))
        self.assertEqual(
            parse(RateLimit="reset=30,remaining=0,limit=100", RateLimit_Policy="100;w=60"),
            Quota(0, 100, 60.0, 30.0),
        )

    def test_later_drafts(self) -> None:
        """
        Policies have names; the one with the least share left counts.
        """
        self.assertEqual(
            parse(RateLimit='"hour";r=50;t=30', RateLimit_Policy='"hour";q=100;w=3600'),
            Quota(50, 100, 3600.0, 30.0),
        )
        self.assertEqual(
            parse(
                RateLimit='"burst";r=9;t=2, "day";r=40;t=600',
                RateLimit_Policy='"burst";q=10;w=5,"day";q=1000;w=86400',
            ),
            Quota(40, 1000, 86400.0, 600.0),
        )
        self.assertEqual(parse(RateLimit='"default";r=50'), Quota(50))

    def test_github(self) -> None:
        """
        The reset is a time since the epoch.
        """
        self.assertEqual(
            parse(X_RateLimit_Limit="60", X_RateLimit_Remaining="56", X_RateLimit_Reset="1372700873"),
            Quota(56, 60, None, 873.0),
        )

    def test_gitlab(self) -> None:
        """
        GitLab sends the names of the drafts, and a time since the epoch.
        """
        self.assertEqual(
            parse(RateLimit_Limit="600", RateLimit_Remaining="594", RateLimit_Reset="1372700060"),
            Quota(594, 600, None, 60.0),
        )

    def test_clock_of_the_server(self) -> None:
        """
        A time since the epoch is by the clock of the response.
        """
        found = parse(
            X_RateLimit_Remaining="0", X_RateLimit_Reset="1372700873", Date="Mon, 01 Jul 2013 17:47:23 GMT"
        )
        self.assertEqual(found, Quota(0, None, None, 30.0))

    def test_past_reset(self) -> None:
        """
        A reset in the past is now.
        """
        self.assertEqual(
            parse(X_RateLimit_Remaining="0", X_RateLimit_Reset="1372600000"), Quota(0, reset=0.0)
        )

    def test_several_lines(self) -> None:
        """
        Of a header that comes twice, the first number counts.
        """
        headers = Headers({"RateLimit-Remaining": ["5", "7"], "RateLimit-Limit": ["10", "20"]})
        self.assertEqual(parse_quota(headers, NOW), Quota(5, 10))

    def test_none(self) -> None:
        """
        Without the number of requests that are left, there is no quota.
        """
        self.assertIsNone(parse())
        self.assertIsNone(parse(RateLimit_Limit="100", RateLimit_Reset="30"))
        self.assertIsNone(parse(RateLimit_Policy='"hour";q=100;w=3600'))

    def test_bad(self) -> None:
        """
        What cannot be read is ignored, and other headers are not.
        """
        for remaining in ("", "many", "-1", "1e9", "0x10", "9" * 13, "5 requests", "=;=,;"):
            self.assertIsNone(parse(RateLimit_Remaining=remaining), remaining)
        for limit in ("", "none", "-5", "0", "9" * 13):
            self.assertEqual(parse(RateLimit_Remaining="5", RateLimit_Limit=limit), Quota(5), limit)
        for reset in ("", "soon", "-5", "9" * 13, "99999999"):
            self.assertEqual(parse(RateLimit_Remaining="5", RateLimit_Reset=reset), Quota(5), reset)
        self.assertEqual(parse(RateLimit_Remaining="5", RateLimit_Limit="9;w=x"), Quota(5, 9))
        self.assertEqual(parse(RateLimit="r=;t", X_RateLimit_Remaining="3"), Quota(3))

    @given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
    def test_anything(self, fields: list[tuple[str, str]]) -> None:
        """
        No header is an error.
        """
        headers = Headers()
        for name, value in fields:
            headers.addRawHeader(name, value)
        parse_quota(headers, NOW)
