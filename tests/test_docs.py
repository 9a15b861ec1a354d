"""
Tests for the documentation: it is complete, correct and in plain English.

A failure names the place where a new setting, option, command, route or error
has to be documented.

The module is long because each kind of text has rules of its own.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from configparser import ConfigParser
from fnmatch import fnmatch
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from attrs import asdict, field, fields, frozen, has
from docutils.core import publish_doctree
from docutils.utils import Reporter
from twisted.internet.defer import Deferred
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.case import HOST, JobsCase
from tests.jobs.test_reasons import WORDS
from tests.test_errors import ours
from xferd.config import Config, key_of
from xferd.ctl.commands.arguments import Parser, add_common, command_parser
from xferd.ctl.commands.table import MODULES, load_command
from xferd.engines.settings import EnginesSettings
from xferd.interfaces.collection import Freed
from xferd.jobs.blobs.partial_download import MIXED, WRONG
from xferd.jobs.events.broker import image_json
from xferd.jobs.images.details import image_details
from xferd.jobs.limits import bounds
from xferd.jobs.reasons import BEFORE
from xferd.jobs.restarts import WINDOW
from xferd.jobs.runner import SUSPENDED
from xferd.jobs.timing import Cause, Timing
from xferd.jobs.verdict import timing_json
from xferd.names import Reference
from xferd.rates import Rate
from xferd.service import STEP_LIMIT
from xferd.tap import Options
from xferd.testing.images import sample_image
from xferd.unpack.rights import _SYS_CHROOT, AS_ROOT
from xferd.unpack.sandbox import _SETPCAP
from xferd.web.app import Web
from xferd.web.job_request import KINDS_OF_JOBS
from xferd.web.metrics import METRICS
from xferd.web.openapi import document
from xferd.web.responses import STATUSES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
STATIC = ROOT / "xferd" / "web" / "static"

OUTSIDE = ("README.rst", "CHANGELOG.rst", "CONTRIBUTING.rst", "SECURITY.rst", "newsfragments/README.rst")
"""The pages that Sphinx does not read."""

PAGES = [*(ROOT / name for name in OUTSIDE), *DOCS.rglob("*.rst")]

ODD = re.compile(
    # Pronouns without an antecedent, and fragments in place of a noun.
    r"\bwhoever\b|(?-i:\bWho\b)|(?<=[;:.(]) ?who\b|\bwhom\b|\b(?:some|no|every|any)body\b"
    r"|\bwhat (?:is what|there is)\b|(?:^|\. )It\.(?: |$)|\b(?:transfers|layers|jobs) that do\b(?! not)"
    r"|\b(?:is|are|there is|be) none\b|\ball that\b|\b(?:is|has) who\b|\bwhat is (?:not )?here\b"
    r"|\bwhatever source\b|\bwhat (?:runs|uses it|was begun|is paused)\b|\b(?:paused|recorded) so\b(?! far)"
    r"|\bthose that are\b|\band the like\b|\band its like\b"
    # Verbs that have a precise form.
    r"|\b(?:go|goes|going|gone|went) on\b(?! to)|\b(?:break|breaks|broke|broken) off\b"
    r"|\b(?:bring|brings|bringing|brought)\b|\b(?:tell|tells|telling|told)\b|\b(?:mend|mends|mended)\b"
    r"|\b(?:gives?|gave|given|giving) (?:away|back|up|out)\b|\b(?:throws?|threw|thrown) away\b"
    r"|\b(?:let|lets|letting) (?:in|go|out)\b|\b(?:is|are|was|were) asked\b|\btried again\b"
    r"|\bwants? nothing\b(?! more)|\bnothing new\b(?! that)|\bdone again\b|\bdo(?:es)? (?:it|jobs?) again\b"
    r"|\b(?:take|send)s? (?:it )?no more\b(?! \w)|\bis alone has\b"
    r"|\b(?:made|makes?) a mistake\b|\bfollowers enough\b|\bno formality\b|\bhas it in\b"
    # Nouns that have another meaning here.
    r"|\brooms?\b|\b(?:last|no|any|its|whose) words?\b|\bfor want of\b"
    # Adverbs and idioms.
    r"|\banew\b|\bbut once\b|\bin vain\b|\bplease\b|\bon (?:its|their) way\b|\bas (?:it|they) came\b"
    r"|\bhow far that\b|\bas it is\b|\bnothing but\b|\bso it is\b(?! \w)",
    re.IGNORECASE,
)
"""Phrases with a plainer form: see CONTRIBUTING.rst, "Language"."""

PLAIN = re.compile(r".*\bnone|as it is|all that|those that are|\w+ asked|(?-i:who)", re.IGNORECASE)
"""Those of them that a docstring may have: it names what they stand for."""

ROOTS = Config.default({"HOME": "/root"}, 0)
"""The default settings of root."""


def read(name: str) -> str:
    """
    The text of a file.
    """
    return (ROOT / name).read_text()


def page(name: str) -> str:
    """
    The text of a page.
    """
    return (DOCS / f"{name}.rst").read_text()


def table(text: str, label: str) -> list[list[str]]:
    """
    The rows of the C{list-table} behind a label, without its head, and each cell
    without backquotes.
    """
    _, found, rest = text.partition(f".. _{label}:\n")
    assert found, f"there is no label {label}"
    rows: list[list[str]] = []
    for line in rest.partition(".. list-table::")[2].splitlines()[1:]:
        cell = re.fullmatch(r"   (\* -|  -) ?(.*)", line)
        if cell is not None:
            if cell[1] == "* -":
                rows.append([])
            rows[-1].append(cell[2].replace("``", ""))
        elif line and not line.startswith("   "):
            break
    return rows[1:]


PLACES = {
    "limits.hosts": "HOST",
    "limits.clients": "NAME",
    "hosts": "HOST",
    "registry.upstreams": "HOST",
    "engines.containerd": "NAME",
}
"""The keys of the tables of tables, as the pages have them."""


def settings(kind: type, value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """
    Every setting with its default, those of single hosts under
    C{hosts."HOST"}, those of engines under C{engines.containerd."NAME"}.
    """
    hints = get_type_hints(kind)
    for each in fields(kind):
        if not each.init or not each.metadata.get("setting", True):
            continue
        name, default = f"{prefix}{key_of(each)}", getattr(value, each.name)
        if isinstance(default, dict):
            kinds = get_args(hints[each.name])
            table = next((hint for hint in kinds if get_origin(hint) is dict), hints[each.name])
            item = get_args(table)[1]
            if has(item):
                yield from settings(item, item(), f'{name}."{PLACES[name]}".')
            else:
                yield name, default
        elif isinstance(default, Rate):
            yield name, default.setting()
        elif has(type(default)):
            yield from settings(type(default), default, f"{name}.")
        else:
            yield name, list(default) if isinstance(default, tuple) else default


def flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """
    The settings in a TOML document.
    """
    for key, value in tables.items():
        name = f'"{PLACES[prefix[:-1]]}"' if prefix[:-1] in PLACES else key
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """
    The summaries and descriptions in a document, each with its place.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("summary", "description") and isinstance(item, str):
                yield where, item
            else:
                yield from strings(item, f"{where}/{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from strings(item, f"{where}/{number}")


@frozen
class Texts:
    """
    The strings of the package.

    @ivar docstrings: its docstrings, also of constants, each with the path of its module.
    @ivar sentences: the other texts that have more than one word, each with its place, without
        those of C{xferd.testing}.
    @ivar parts: every string as a list of parts, with L{None} for each replacement field.
    """

    docstrings: list[tuple[str, str]] = field(factory=list)
    sentences: list[tuple[str, str]] = field(factory=list)
    parts: list[list[str | None]] = field(factory=list)

    def add(self, path: str, source: bytes) -> None:
        """
        Add the strings of a module.
        """
        nodes = list(ast.walk(ast.parse(source)))
        own = {id(n.value) for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
        joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
        inside = {id(part) for node in joined for part in ast.walk(node) if part is not node}
        for text in joined:
            self.parts.append([str(v.value) if isinstance(v, ast.Constant) else None for v in text.values])
        for node in nodes:
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            if id(node) not in inside:
                self.parts.append([node.value])
            if id(node) in own:
                self.docstrings.append((path, node.value))
            elif " " in node.value.strip() and not path.startswith("xferd/testing/"):
                self.sentences.append((f"{path}, line {node.lineno}", node.value))


@cache
def texts() -> Texts:
    """
    The strings of the package.
    """
    found = Texts()
    for path in (ROOT / "xferd").rglob("*.py"):
        found.add(str(path.relative_to(ROOT)), path.read_bytes())
    return found


DETAILS = ("", "the disk is full", "some bytes were wrong", "waiting for rain", "no access")
"""Words of L{WORDS<tests.jobs.test_reasons.WORDS>} that only stand for others, which are below."""

MORE_WORDS = (
    "the disk of /var/lib/xferd is full; transfers continue when space is free again",
    WRONG,
    MIXED.format("ghcr.io/team/app"),
    "waiting for docker.io/library/alpine, which sends nothing",
    "waiting for another client's download of the same blob",
    "paused by user alice (laptop)",
    "downloads are paused by root",
    "uploads are paused by root",
    "ghcr.io is paused by root",
    BEFORE.why,
    SUSPENDED,
    f"waits up to {WINDOW:.0f} s for its client",
    (
        "waits for the credentials for ghcr.io and quay.io: its client can send them again, "
        "or its user can run 'xferctl login ghcr.io'"
    ),
    "no answer for 4 s from ghcr.io",
    "no bytes unpacked for 4 s",
    "waiting for an upload slot, 1st in line",
    "waiting for an unpacking worker, 1st in line",
)
"""The words of reasons that a text of the obstacle's own belongs to, and of jobs that wait."""

CASES = (
    (Cause.LINE, "moving", "download", "ghcr.io"),
    (Cause.LINE, "moving", "download", "slow.example"),
    (Cause.LINE, "waiting", "download", "ghcr.io"),
    (Cause.REGISTRY, "resolving", "document", "ghcr.io"),
    (Cause.SILENCE, "waiting", "download", "ghcr.io"),
    (Cause.SILENCE, "waiting", "upload", "ghcr.io"),
    (Cause.LIMIT, "moving", "download", ""),
    (Cause.LIMIT, "moving", "download", "host ghcr.io"),
    (Cause.LIMIT, "moving", "upload", "client ci"),
    (Cause.LIMIT, "moving", "download", "job 124bcf5aba73"),
    (Cause.SLOTS, "waiting", "download", ""),
    (Cause.HOST_SLOTS, "waiting", "download", "ghcr.io"),
    (Cause.HELPER, "resolving", "document", "docker-credential-ecr-login"),
    (Cause.RATE_LIMIT, "waiting", "download", "ghcr.io"),
    (Cause.FAILURES, "waiting", "download", "ghcr.io"),
    (Cause.UNPACKING, "unpacking", "unpacking", ""),
    (Cause.DISK, "registering", "", ""),
    (Cause.FULL_DISK, "waiting", "", ""),
    (Cause.DESCRIPTORS, "waiting", "download", ""),
    (Cause.CLIENT, "moving", "", ""),
    (Cause.RESTART, "interrupted", "", ""),
    (Cause.RESTART, "queued", "", ""),
    (Cause.PAUSED, "waiting", "", "user alice"),
    (Cause.OTHER, "waiting", "download", ""),
)
"""Stages of jobs whose verdicts are different."""


def like(examples: Iterable[str]) -> re.Pattern[str]:
    """
    A pattern of texts that differ from an example only in names and numbers.
    """
    patterns = []
    for example in examples:
        text = re.escape(example).replace(re.escape("..."), ".+")
        text = re.sub(r"\d+(?:st|nd|rd|th)\\? ", r"\\d+[a-z]{2} ", text.replace("\\ ", " "))
        text = re.sub(r"(?<![\w\\.])[\w-]+(?:\\\.[\w-]+)+(?:/[\w/]+)?", r"\\S+(?: and \\S+)*", text)
        text = re.sub(r"(?<![\w\\{])\d+(?:\\\.\d+)?(?![\w}])", r"[\\d.]+", text)
        text = re.sub(r"job \w+", r"job \\w+", text).replace("upload limit", "download limit")
        patterns.append(text.replace("slots in use", "slots? in use"))
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


SETTINGS = dict(settings(Config, ROOTS))


class MarkupTests(SynchronousTestCase):
    """
    The pages that Sphinx does not read.
    """

    def test_valid(self) -> None:
        """
        They are reStructuredText without warnings, as a package index requires.
        """
        for name in OUTSIDE:
            # A warning is raised as an error, which names the line.
            strict = {"halt_level": Reporter.WARNING_LEVEL, "report_level": Reporter.SEVERE_LEVEL}
            publish_doctree((ROOT / name).read_text(), source_path=name, settings_overrides=strict)


class TitleTests(SynchronousTestCase):
    """
    The titles of the pages.
    """

    def test_first(self) -> None:
        """
        Each page begins with its title; without one, its sections become pages of the menu.
        """
        for path in DOCS.rglob("*.rst"):
            lines = path.read_text().splitlines()
            if lines[0].startswith("="):
                del lines[0]
            if not lines[0].startswith(".. "):
                self.assertRegex(lines[1], f"^={{{len(lines[0])},}}$", path.name)


class ContributingTests(SynchronousTestCase):
    """
    CONTRIBUTING.rst.
    """

    def test_questions(self) -> None:
        """
        The modules that answer the questions can be imported.
        """
        questions = re.findall(
            r"^(?:How|What|When|Where|Which) .*\? +(``.*)$", read("CONTRIBUTING.rst"), re.MULTILINE
        )
        self.assertEqual(len(questions), 13)
        for answer in questions:
            for path in re.findall(r"``(\S+)\.py``", answer):
                import_module(path.replace("/", "."))

    def test_tests(self) -> None:
        """
        Each test that an example runs exists.
        """
        names = re.findall(r"twisted\.trial (tests[\w.]*)", read("CONTRIBUTING.rst"))
        self.assertGreater(len(names), 3)
        for name in names:
            self.assertIsNotNone(namedAny(name), name)


class LanguageTests(SynchronousTestCase):
    """
    Plain technical English wherever users read.
    """

    def assert_plain(self, where: str, text: str) -> None:
        """
        A text has none of the phrases that have a plainer form.
        """
        # A phrase may go over the end of a line.
        found = [m[0] for m in ODD.finditer(" ".join(re.sub(r"``.*?``", "", text, flags=re.DOTALL).split()))]
        self.assertEqual(found, [], f"{where} has phrases with a plainer form")

    def test_pages(self) -> None:
        """
        The README and each page, except quoted messages.
        """
        self.assertGreater(len(PAGES), 20)
        for path in [*PAGES, *DOCS.glob("xferd*.*")]:
            text = re.sub(
                r"^\.\. code-block:: text\n\n(?:    .+\n)+", "", path.read_text(), flags=re.MULTILINE
            )
            self.assert_plain(str(path.relative_to(ROOT)), text)

    def test_help(self) -> None:
        """
        The help of xferctl's commands and of C{twistd xferd}.
        """
        for name in MODULES:
            self.assert_plain(
                f"xferctl {name} --help", command_parser(name, load_command(name)).format_help()
            )
        self.assert_plain("twistd xferd --help", Options().getUsage())

    def test_openapi(self) -> None:
        """
        The description of the HTTP API.
        """
        for where, text in strings(document("0")):
            self.assert_plain(f"the OpenAPI document, {where}", text)

    def test_page(self) -> None:
        """
        The status page.
        """
        paths = [*STATIC.glob("*.html"), *STATIC.glob("*.js")]
        self.assertGreater(len(paths), 10)
        for path in paths:
            self.assert_plain(path.name, path.read_text())

    def test_messages(self) -> None:
        """
        Errors, the log, and all other texts in the code.
        """
        checked = 0
        for where, text in texts().sentences:
            self.assert_plain(where, text)
            checked += 1
        self.assertGreater(checked, 2000)

    def test_docstrings(self) -> None:
        """
        Docstrings have a handful of these phrases at most, without the plain ones.
        """
        found = [
            (path, match[0])
            for path, text in texts().docstrings
            for match in ODD.finditer(" ".join(re.sub(r"[CL]\{.*?\}|@\w+ \w+:", "", text).split()))
            if not PLAIN.fullmatch(match[0].strip())
        ]
        self.assertLess(len(found), 13, found)

    def test_metrics(self) -> None:
        """
        The help of each metric.
        """
        for name, text in METRICS.items():
            self.assert_plain(f"the metric {name}", text)


class FiguresTests(SynchronousTestCase):
    """
    The figures in the README.
    """

    def test_measured(self) -> None:
        """
        They are those of the documented runs, on the same programs.
        """
        readme = (ROOT / "README.rst").read_text()
        run = "".join((DOCS / f"{name}-run.inc").read_text() for name in ("benchmarks", "engines"))
        section = readme.partition("How fast it is\n")[2].partition("\nUse it\n")[0]
        found = re.findall(r"\b\d[\d.]*\s(?:s|ms|times|MB of memory|MB with)|\b\d+\.\d+\.\d+\b", section)
        self.assertGreater(len(found), 25)
        for figure in found:
            words = " ".join(figure.split()[:2]).removesuffix(" of").removesuffix(" with")
            self.assertIn(words, run, f"no documented run has the README's {words}")


class PathsTests(SynchronousTestCase):
    """
    The files and modules that the pages name.
    """

    FILES = re.compile(r"``((?:xferd|tests|benchmarks|docs|\.ci)/(?!xferd\.sock|build)[^\s`]*)``")
    MODULES = re.compile(
        r"``(?:python -m )?((?:xferd\.(?!sock|token|db|toml|service|localhost)|tests\.)[a-z_.]+)\b"
    )

    def test_files(self) -> None:
        """
        Each path in the checkout exists.
        """
        for path in PAGES:
            for name in self.FILES.findall(path.read_text()):
                found = any(ROOT.glob(name)) if "*" in name else (ROOT / name).exists()
                self.assertTrue(found, f"{path.relative_to(ROOT)}: {name} does not exist")

    def test_modules(self) -> None:
        """
        Each module of xferd and of the tests exists.
        """
        for path in PAGES:
            for name in self.MODULES.findall(path.read_text()):
                module = ROOT / name.replace(".", "/")
                exists = module.is_dir() or module.with_suffix(".py").exists()
                self.assertTrue(exists, f"{path.relative_to(ROOT)}: {name} is not a module")

    def test_architecture(self) -> None:
        """
        The page on the architecture names each module, or else all of its package or of its
        kind: C{xferd/doctor/}, C{xferd/testing/fake_*.py}.
        """
        named = set(re.findall(r"``(xferd/[^`\s]+)``", page("architecture")))
        paths = [str(path.relative_to(ROOT)) for path in (ROOT / "xferd").rglob("*.py")]
        self.assertGreater(len(paths), 500)
        for path in paths:
            if not path.endswith(("/__init__.py", "/_version.py")):
                self.assertTrue(
                    any(fnmatch(path, f"{each}*" if each.endswith("/") else each) for each in named),
                    f"no table of docs/architecture.rst has {path}: add a row with its subject",
                )


class SettingsTests(SynchronousTestCase):
    """
    The settings, in each place that lists them.
    """

    def assert_settings(self, found: Mapping[str, Any], where: str, how: str) -> None:
        """
        All settings are listed with their defaults, and no others.

        @param how: a line that would add one.
        """
        for name, default in SETTINGS.items():
            self.assertIn(name, found, f"the setting {name} is not in {where}; {how}")
            same = type(found[name]) is type(default) and found[name] == default
            self.assertTrue(same, f"{name} is {default!r} by default, not {found[name]!r} as {where} says")
        for name in found:
            self.assertIn(name, SETTINGS, f"{where} has {name}, which is not a setting: remove it")

    def test_page(self) -> None:
        """
        The page has each setting with its default.
        """
        found = {
            name: tomllib.loads(f"value = {default}")["value"]
            for name, default in re.findall(
                r"^\.\. confval:: (\S+)\n   :type: .+\n   :default: ``(.+)``\n\n   \S",
                page("configuration"),
                re.MULTILINE,
            )
        }
        how = "add '.. confval:: NAME' with :type:, :default: ``...`` as in TOML, and a sentence"
        self.assert_settings(found, "docs/configuration.rst", how)

    def test_bounds(self) -> None:
        """
        The page has the bounds of each limit.
        """
        for name, (least, most) in bounds().items():
            line = f".. confval:: limits.{name}\n   :type: whole number from {least} to {most:,}\n"
            self.assertIn(line, page("configuration"))

    def test_example(self) -> None:
        """
        The example file has each setting with its default, and can be read.  Settings
        that would serve an engine are commented out.
        """
        text = re.sub(r"^#(?=\S)", "", (DOCS / "xferd.toml").read_text(), flags=re.MULTILINE)
        found = dict(flat(tomllib.loads(text)))
        self.assert_settings(found, "docs/xferd.toml", "add it with its default and a comment")
        whole = Path(self.mktemp())
        whole.write_text(text)
        for path in (whole, DOCS / "xferd.toml"):
            config = ROOTS.with_file(str(path))
            self.assertEqual(dict(settings(Config, config)), SETTINGS)
        self.assertEqual(ROOTS.with_file(str(DOCS / "xferd.toml")).engines, EnginesSettings())


class CommandLineTests(SynchronousTestCase):
    """
    The commands and their options.
    """

    def assert_options(self, program: str, wanted: set[str]) -> None:
        """
        All options of a program are on the page, and no others.
        """
        name = "xferctl" if program.startswith("xferctl") else "xferd"
        text = page(name)
        _, found, rest = text.partition(f".. program:: {program}\n")
        self.assertTrue(
            found, f"docs/{name}.rst has no section '{program}'; add one, with '.. program:: {program}'"
        )
        section = rest.partition(".. program:: ")[0]
        listed = {
            part.split()[0]
            for line in re.findall(r"^\.\. option:: (.+)$", section, re.MULTILINE)
            for part in line.split(", ")
        }
        for option in sorted(wanted - listed):
            self.fail(f"docs/{name}.rst lacks {option} of '{program}': add '.. option:: {option}'")
        for option in sorted(listed - wanted):
            self.fail(f"docs/{name}.rst has {option}, which '{program}' does not accept")

    def test_common(self) -> None:
        """
        The options of all commands.
        """
        parser = Parser()
        add_common(parser)
        self.assert_options("xferctl", {*parser._option_string_actions, "--version"})

    def test_commands(self) -> None:
        """
        Each command with its options.
        """
        for name in MODULES:
            parser = Parser()
            load_command(name).add_arguments(parser)
            places = {str(a.metavar or a.dest) for a in parser._actions if not a.option_strings}
            options = set(parser._option_string_actions) - set(Parser()._option_string_actions)
            self.assert_options(f"xferctl {name}", options | places)

    def test_no_other_commands(self) -> None:
        """
        The page has no command that was removed.
        """
        for name in re.findall(r"^\.\. program:: xferctl (\S+)$", page("xferctl"), re.MULTILINE):
            self.assertIn(name, MODULES, f"docs/xferctl.rst has 'xferctl {name}', which is not a command")

    def test_in_guide(self) -> None:
        """
        The guide or the first steps show each command in use.
        """
        text = page("guide") + page("first-steps")
        for name in MODULES:
            self.assertIn(f"$ xferctl {name}", text, f"docs/guide.rst does not show 'xferctl {name}'")

    def test_examples(self) -> None:
        """
        No example makes C{twistd} write its PID file.
        """
        texts = [(ROOT / "README.rst").read_text(), *(path.read_text() for path in DOCS.glob("*.*"))]
        lines = re.findall(r"^(?:#? *ExecStart=.*|    \$ twistd .*)$", "\n".join(texts), re.MULTILINE)
        examples = [line for line in lines if "twistd" in line]
        self.assertGreater(len(examples), 3)
        for line in examples:
            self.assertIn(" --pidfile= xferd", line)

    def test_twistd(self) -> None:
        """
        The options of C{twistd xferd}.
        """
        options = Options()
        wanted = {f"--{long.rstrip('=')}" for long in options.longOpt}
        wanted |= {f"-{short}" for short in options.shortOpt.replace(":", "")}
        self.assert_options("twistd xferd", wanted)


class HTTPTests(JobsCase):
    """
    The HTTP API.
    """

    def assert_fields(self, label: str, wanted: Mapping[str, Any]) -> None:
        """
        The table behind a label has the members of an object, and no other.
        """
        listed = [row[0] for row in table(page("http-api"), label)]
        for name in wanted:
            self.assertIn(name, listed, f"add {name} to the table '.. _{label}:' of docs/http-api.rst")
        for name in listed:
            self.assertIn(name, wanted, f"remove {name} from the table '.. _{label}:' of docs/http-api.rst")

    def test_routes(self) -> None:
        """
        Each route has a section.
        """
        wanted = set()
        for rule in Web.app.url_map.iter_rules():
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", rule.rule)
            wanted |= {f"{method} {path}" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
        listed = set(re.findall(r"^``([A-Z]+ /\S*)``\n-+$", page("http-api"), re.MULTILINE))
        for route in sorted(wanted - listed):
            self.fail(f"docs/http-api.rst lacks {route}: add a section with the title ``{route}``")
        for route in sorted(listed - wanted):
            self.fail(f"docs/http-api.rst has {route}, which is not a route")

    def test_kinds(self) -> None:
        """
        Each kind of job has a table of its fields.
        """
        for kind, (_, body) in KINDS_OF_JOBS.items():
            self.assert_fields(f"asked-{kind}", dict.fromkeys(body.names))

    def test_job(self) -> None:
        """
        The tables of a job, a layer and an attempt have their members.
        """
        self.add(sample_image(1))
        job_id = self.pull()
        self.settle()
        transfers = self.jobs.transfers()
        job = self.job(job_id)
        self.assertEqual(job["state"], "done")
        self.assert_fields("job", job)
        self.assert_fields("layer", job["layers"][0])
        attempts = self.jobs.attempts(job_id)
        self.settle()
        self.assert_fields("attempt", self.successResultOf(attempts)[0])
        self.assertEqual(transfers, [])

    def test_transfer(self) -> None:
        """
        The table of a transfer has its members.
        """
        self.add(sample_image(1))
        self.pull()
        transfer = self.jobs.transfers()[0]
        self.assert_fields("transfer", transfer)

    def test_image(self) -> None:
        """
        An image is as it is described.
        """
        self.add(sample_image(1))
        self.pulled()
        image = self.store.images.get(Reference.parse(f"{HOST}/app"))
        assert image is not None
        asked = Deferred.fromCoroutine(image_details(self.store, image))
        self.settle()
        shown = self.successResultOf(asked)
        self.assert_fields("image", shown)
        # As the page says of the list.
        listed = [row[0] for row in table(page("http-api"), "image")]
        self.assertEqual(listed[:-4], list(image_json(image)))

    def test_freed(self) -> None:
        """
        The table of freed content has its members.
        """
        self.assert_fields("freed", asdict(Freed()))

    def test_status(self) -> None:
        """
        The table of the status has its members.
        """
        own = {"version", "started", "disk", "images"}
        self.assert_fields("status", dict.fromkeys({*own, *self.jobs.status()}))


class ErrorsTests(SynchronousTestCase):
    """
    The errors.
    """

    def test_codes(self) -> None:
        """
        Each class is in the table with its code, its status and whether it is
        tried again.
        """
        listed = {row[1]: row for row in table(page("errors"), "error-codes")}
        for cls in ours():
            status = next(STATUSES[kind] for kind in cls.__mro__ if kind in STATUSES)
            wanted = [cls.code, cls.__name__, str(status), "yes" if cls.retryable else "no"]
            name = cls.__name__
            self.assertIn(
                name, listed, f"add a row for {name} to docs/errors.rst: {wanted}, and who can solve it"
            )
            self.assertEqual(listed[name][:4], wanted, f"docs/errors.rst differs for {name}")
            self.assertTrue(listed[name][4].strip(), f"docs/errors.rst does not name who can solve {name}")
            del listed[name]
        self.assertEqual(listed, {}, "docs/errors.rst has classes that do not exist")


class MessagesTests(SynchronousTestCase):
    """
    The messages in the page on troubleshooting.
    """

    def test_messages(self) -> None:
        """
        Each is in the code, whole or in part.
        """
        found = re.findall(
            r"^\.\. code-block:: text\n\n((?:    .+\n)+)", page("troubleshooting"), re.MULTILINE
        )
        messages = [line[4:] for block in found for line in block.splitlines()]
        self.assertGreater(len(messages), 40)
        said = [parts for parts in texts().parts if sum(len(part or "") for part in parts) >= 12]
        # To compile a pattern of every string would take ten seconds.
        shown = "\n".join(messages)
        likely = [parts for parts in said if all((part or "") in shown for part in parts)]
        whole = [re.compile("".join(".+?" if p is None else re.escape(p) for p in parts)) for parts in likely]
        bare = ["\0".join(part or "" for part in parts) for parts in said]
        for message in messages:
            pieces = [piece for piece in message.split("...") if len(piece) >= 8]
            known = any(pattern.search(message) for pattern in whole) or (
                bool(pieces) and any(all(map(text.__contains__, pieces)) for text in bare)
            )
            self.assertTrue(known, f"docs/troubleshooting.rst: no such message in the code: {message}")

    def test_reasons(self) -> None:
        """
        The words of each reason are under "A job waits".
        """
        section = page("troubleshooting").partition("A job waits\n----")[2].partition("\nIt is slow\n----")[0]
        blocks = re.findall(r"^\.\. code-block:: text\n\n((?:    .+\n)+)", section, re.MULTILINE)
        documented = like([line[4:] for block in blocks for line in block.splitlines()])
        told = [words for words in (*WORDS.values(), *MORE_WORDS) if words not in DETAILS]
        self.assertGreater(len(told), 40)
        for words in told:
            known = documented.fullmatch(words)
            self.assertTrue(known, f"docs/troubleshooting.rst, A job waits, lacks: {words}")

    def test_verdicts(self) -> None:
        """
        What may have bounded a job is in the table under "It is slow", and nothing else.
        """
        section = (
            page("troubleshooting").partition("\nIt is slow\n----")[2].partition("\nA job failed\n----")[0]
        )
        cells = re.findall(r"^   \* - ((?:.|\n      )+)", section, re.MULTILINE)
        examples = [example for cell in cells for example in re.findall(r"``([^`]+)``", cell)]
        texts = set()
        for cause, phase, kind, whom in CASES:
            stages = [[phase, cause, kind, whom, 2, 10.0]]
            if phase == "moving":
                stages.append(["moving", cause, kind, whom, 2, 10.0])
            timing = Timing()
            timing.restore({"stages": stages, "moved": [[kind, whom, 40_000_000]]}, 0.0)
            rates = {"slow.example": {"docker.io": 11_000_000.0}}.get(whom, {})
            bound = timing_json(timing, "pull", 0, None, partial(dict, rates), done=True)["bound"]
            assert bound is not None
            texts.add(bound["text"].partition(": ")[2])
        self.assertEqual({case[0] for case in CASES}, set(Cause))
        documented = like(examples)
        for text in texts:
            self.assertTrue(documented.search(text), f"docs/troubleshooting.rst, It is slow, lacks: {text}")
        for example in examples:
            known = any(like([example]).search(text) for text in texts)
            self.assertTrue(known, f"docs/troubleshooting.rst, It is slow: there is no such cause: {example}")


class UnitTests(SynchronousTestCase):
    """
    The unit for systemd.
    """

    NUMBERS: ClassVar[Mapping[str, int]] = {
        "CAP_CHOWN": 0,
        "CAP_DAC_OVERRIDE": 1,
        "CAP_FOWNER": 3,
        "CAP_FSETID": 4,
        "CAP_SYS_CHROOT": 18,
        "CAP_SYS_ADMIN": 21,
        "CAP_MKNOD": 27,
        "CAP_SETFCAP": 31,
        "CAP_SETPCAP": 8,
    }

    def settings(self) -> ConfigParser:
        """
        Its settings.
        """
        unit = ConfigParser(interpolation=None, delimiters=("=",))
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(DOCS / "xferd.service")
        return unit

    def test_rights(self) -> None:
        """
        It grants the capabilities that unpacking as root needs, and no others.
        """
        given = self.settings()["Service"]["CapabilityBoundingSet"].split()
        bits = sum(1 << self.NUMBERS[name] for name in given)
        needed = AS_ROOT | _SYS_CHROOT | _SETPCAP
        self.assertEqual(bits, needed, "docs/xferd.service and xferd/unpack/rights.py differ")

    def test_command(self) -> None:
        """
        The daemon starts as it says, and without a configuration file.
        """
        command = self.settings()["Service"]["ExecStart"].split()
        self.assertEqual(command[1:4], ["--nodaemon", "--pidfile=", "xferd"])
        parsed = Options()
        parsed.parseOptions(command[4:])
        self.assertEqual(parsed.config, Options().config)

    def test_stop(self) -> None:
        """
        The daemon has enough time to stop.
        """
        given = float(self.settings()["Service"]["TimeoutStopSec"])
        self.assertGreater(given, ROOTS.grace + 6 * STEP_LIMIT)
