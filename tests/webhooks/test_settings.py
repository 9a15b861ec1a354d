"""
Tests for L{xferd.webhooks.settings}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.config import Config
from xferd.errors import ConfigError
from xferd.jobs.job import ENDED
from xferd.web.job_request import KINDS_OF_JOBS
from xferd.webhooks.settings import KINDS, STATES


class SettingsTests(SynchronousTestCase):
    """
    The tables C{[[webhooks]]}.
    """

    def test_names(self) -> None:
        """
        All kinds of jobs and all states in which they end are known.
        """
        self.assertEqual(set(KINDS), set(KINDS_OF_JOBS))
        self.assertEqual(set(STATES), set(ENDED))

    def test_file(self) -> None:
        """
        The tables of the configuration file.
        """
        path = Path(self.mktemp())
        path.write_text(
            '[[webhooks]]\nurl = "https://a.example:8443/x?token=t"\n'
            'secret_file = "/s"\nstates = ["failed"]\n'
            '[[webhooks]]\nurl = "http://10.0.0.7/"\nsecret_file = "/s"\n'
        )
        one, two = Config(data_dir="/d").with_file(str(path)).webhooks
        self.assertEqual((one.host, one.states, one.kinds), ("a.example:8443", ("failed",), KINDS))
        self.assertEqual((two.host, two.states), ("10.0.0.7", STATES))
        self.assertNotEqual(one.key, two.key)
        self.assertNotIn("token", f"{one} {one.key}")

    def test_refused(self) -> None:
        """
        Invalid settings are refused with the reason.
        """
        path = Path(self.mktemp())
        for line, reason in (
            ('url = "ftp://a/"', "webhooks[1].url is refused: it is not an http or https URL"),
            (
                'url = "https://u:p@a/"',
                "webhooks[1].url is refused: it is not an http or https URL without credentials",
            ),
            ("states = []", "webhooks[1].states must have some of done, failed, cancelled"),
            ('kinds = ["pulls"]', "webhooks[1].kinds must have some of pull, push,"),
            ('to = "x"', "webhooks[1].to is not a setting"),
            ('secret_file = "/s"', "webhooks must have 'url' in each table: table 1 has none"),
            ('url = "https://a/"', "webhooks must have 'secret_file' in each table: table 1 has none"),
        ):
            path.write_text(f"[[webhooks]]\n{line}\n")
            error = self.assertRaises(ConfigError, Config(data_dir="/d").with_file, str(path))
            self.assertIn(reason, str(error))
            self.assertNotIn("u:p", str(error))
