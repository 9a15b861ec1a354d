"""
The checks, each in an environment of its own: C{nox -s lint}.  C{.ci/run} runs
the same steps in one environment, without nox.
"""

from __future__ import annotations

import re
from configparser import ConfigParser

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests", "docs", "wheel"]

PYTHONS = ["3.11", "3.12", "3.13"]


def lowest() -> list[str]:
    """
    The declared dependencies, each in the series of its lowest version.
    """
    config = ConfigParser()
    config.read("setup.cfg")
    return [
        re.sub(r"\s*>=\s*([\d.]+)$", r"==\1.*", line)
        for line in config["options"]["install_requires"].split("\n")
        if line
    ]


@nox.session
def lint(session: nox.Session) -> None:
    """
    Format and lint.
    """
    session.install(".[check]")
    session.run(".ci/step", "lint", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """
    Types, and the direction of imports.
    """
    session.install(".[test,check]")
    session.run(".ci/step", "types", external=True)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """
    The tests, or those named behind C{--}, on each Python that is installed.
    """
    session.install(".[test]")
    session.run("python", "-m", "twisted.trial", *(session.posargs or ["tests"]))


@nox.session(name="lowest", python=PYTHONS[0])
def lowest_dependencies(session: nox.Session) -> None:
    """
    The tests with the lowest dependencies that setup.cfg declares.
    """
    session.install(".[test]")
    # In a second step: a tool of the tests may need a later one.
    session.install(*lowest())
    session.run("python", "-m", "twisted.trial", *(session.posargs or ["tests"]))


@nox.session
def docs(session: nox.Session) -> None:
    """
    The documentation, in build/docs.
    """
    session.install(".[docs]")
    session.run(".ci/step", "docs", external=True)


@nox.session
def wheel(session: nox.Session) -> None:
    """
    The wheel, in an empty environment.
    """
    session.install("build", "twine", "pip")
    session.run(".ci/step", "wheel", external=True)
