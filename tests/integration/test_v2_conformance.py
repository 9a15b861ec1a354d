"""
The OCI conformance suite of the distribution-spec: in its push mode with the daemon's own
repositories, and in its read-only mode with those of a mirror.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, cast
from unittest import SkipTest

from attrs import frozen
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.peers import DockerRegistry, Registry3
from tests.integration.test_v2_pull import FaultyCase
from tests.integration.test_v2_push import PushCase
from xferd.interfaces.reactor import IReactor
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import index_of, sample_image

reactor = cast(IReactor, installed)

DISABLED: Final[dict[str, frozenset[str]]] = {
    "1.1": frozenset(f"{each} blobs/post cancel/blob-post-cancel" for each in ("sha256", "sha512")),
    "dev": frozenset(),
}
"""The tests that the suite itself leaves out, by its version: they are of later versions."""

CHANGES: Final = {
    "sha256 blobs",
    "sha512 blobs",
    "push",
    "manifest-by-digest",
    "manifest-by-tag",
    "manifest-put",
    "delete",
    "manifest-delete",
    "blob-delete",
}
"""The tests that the read-only mode leaves out, all of which push or delete.  A deletion removes
a mirror's own copy alone: the next request fetches it again."""

READS: Final = {
    "read-only/tag-list": 1,
    "read-only/head/manifest-head-by-tag": 2,
    "read-only/head/manifest-head-by-digest": 6,
    "read-only/head/blob-head": 8,
    "read-only/pull/manifest-by-tag": 2,
    "read-only/pull/manifest-by-digest": 6,
    "read-only/pull/blob-get": 8,
    "read-only/referrers": 1,
}
"""The numbers of tests of what exists."""

REPOSITORIES: Final = ("local/conformance/a", "local/conformance/b")


@frozen
class Score:
    """
    The numbers of tests by their outcomes; those that break off count as failed.
    """

    passed: int
    failed: int
    skipped: int
    disabled: int


SCORES: Final = {
    ("xferd", "1.1"): Score(860, 0, 0, 2),
    ("xferd", "dev"): Score(986, 0, 0, 0),
    ("docker-registry 2.8", "1.1"): Score(703, 99, 44, 2),
    ("docker-registry 2.8", "dev"): Score(776, 153, 61, 0),
    ("registry 3.1", "1.1"): Score(738, 94, 16, 2),
    ("registry 3.1", "dev"): Score(821, 146, 25, 0),
}
"""The table of C{docs/registry.rst}."""


@frozen
class Report:
    """
    What the suite printed.
    """

    code: int
    text: str

    @property
    def score(self) -> Score:
        """
        The numbers of tests.
        """
        numbers = {
            name: int(number)
            for name, number in re.findall(
                r"^ +(Disabled|Skip|Pass|FAIL|Error)\.*: +([0-9]+)$", self.text, re.MULTILINE
            )
        }
        failed = numbers["FAIL"] + numbers["Error"]
        return Score(numbers["Pass"], failed, numbers["Skip"], numbers["Disabled"])

    def tests(self, *outcomes: str) -> list[str]:
        """
        The tests with some outcomes.
        """
        found = re.findall(r"^ *OCI Conformance Test/(.+): (\w+)$", self.text, re.MULTILINE)
        return [name for name, outcome in found if outcome in outcomes]


async def run_suite(
    host: str, repositories: Iterable[str], place: Path, version: str, **variables: str
) -> Report:
    """
    Run the suite.

    @param variables: further ones of its environment, without C{OCI_}.
    @raise SkipTest: it is not installed.
    """
    program = shutil.which("conformance")
    if program is None:
        raise SkipTest("the OCI conformance suite is not installed: .ci/run does that where Go is found")
    first, second = repositories
    environment = {
        **os.environ,
        "OCI_REGISTRY": host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": first,
        "OCI_REPO2": second,
        "OCI_RESULTS_DIR": str(place / f"results-{version}"),
        "OCI_VERSION": version,
        **{f"OCI_{name}": value for name, value in variables.items()},
    }
    written, errors, code = await getProcessOutputAndValue(program, [], environment, str(place), reactor)
    return Report(code, (written + errors).decode(errors="replace"))


class PushTests(PushCase):
    """
    All tests pass with the daemon's own repositories.
    """

    async def check(self, version: str) -> None:
        """
        Run the suite for a version of the specification.
        """
        report = await run_suite(self.host, REPOSITORIES, self.place, version)
        self.assertEqual((report.code, report.tests("FAIL", "Error", "Skip")), (0, []), report.text)
        self.assertEqual(report.score, SCORES["xferd", version], report.text)
        self.assertEqual(set(report.tests("Disabled")), DISABLED[version])

    async def test_stable(self) -> None:
        """
        The released version.
        """
        await self.check("1.1")

    async def test_next(self) -> None:
        """
        The next version.
        """
        await self.check("dev")


class OtherTests(TestCase):
    """
    The scores of other registries, which the documentation compares.
    """

    async def check(self, kind: type[DockerRegistry], name: str, version: str) -> None:
        """
        Run the suite with a registry.
        """
        place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        registry = kind(reactor, str(place / "registry"))
        await registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(registry.stop()))
        report = await run_suite(registry.host, REPOSITORIES, place, version)
        self.assertEqual(report.score, SCORES[name, version], report.text)

    async def test_docker_registry(self) -> None:
        """
        Debian's docker-registry fails 99 tests of the released version.
        """
        await self.check(DockerRegistry, "docker-registry 2.8", "1.1")

    async def test_docker_registry_next(self) -> None:
        """
        It fails 153 of the next version.
        """
        await self.check(DockerRegistry, "docker-registry 2.8", "dev")

    async def test_registry_3(self) -> None:
        """
        The registry of distribution 3 fails 94.
        """
        await self.check(Registry3, "registry 3.1", "1.1")

    async def test_registry_3_next(self) -> None:
        """
        It fails 146 of the next version.
        """
        await self.check(Registry3, "registry 3.1", "dev")


class ReadOnlyTests(FaultyCase):
    """
    All tests of pulls pass with a mirror, whose upstream has an image, an index and two
    referrers.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Add the index and the referrers.
        """
        await super().setUp()
        index = index_of({p: sample_image(2, platform=p, seed=str(p)) for p in _PLATFORMS})
        self.registry.add(index, "app", "multi")
        self.documents = [self.image.document, *index.documents]
        self.blobs = [*self.image.blobs, *index.blobs]
        for kind in ("sbom", "signature"):
            value = {
                **json.loads(self.image.document.data),
                "subject": self.image.document.descriptor.to_json(),
                "artifactType": f"application/vnd.example.{kind}",
            }
            about = Document.verified(OCI_MANIFEST, json.dumps(value).encode())
            self.registry.storage.put_document("app", about)
            self.documents.append(about)

    async def check(self, name: str, version: str, *, alone: bool = False) -> None:
        """
        Run the suite with a repository of the mirror.

        @param alone: leave out the tests of other content than that which exists.
        """

        def text(digests: Iterable[Digest]) -> str:
            return " ".join(dict.fromkeys(map(str, digests)))

        report = await run_suite(
            f"127.0.0.1:{self.port}",
            (name, name),
            Path(self.place),
            version,
            API_PUSH="false",
            **{f"API_{kind}_DELETE": "false" for kind in ("BLOBS", "MANIFESTS", "TAGS")},
            # The suite does not look at the headers of manifests that it has not pushed.
            API_MANIFESTS_DIGEST_HEADER="false",
            FILTER_TEST="OCI Conformance Test" + ("/read-only" if alone else ""),
            RO_DATA_TAGS="1 multi",
            RO_DATA_MANIFESTS=text(document.digest for document in self.documents),
            RO_DATA_BLOBS=text(blob.digest for blob in self.blobs),
            RO_DATA_REFERRERS=text(document.digest for document in self.documents),
        )
        # The suite prints this, and then fails at its file of results: its data of pushes is missing.
        self.assertIn("OCI Conformance Result: Pass\n", report.text)
        self.assertEqual(report.tests("FAIL", "Error", "Skip"), [], report.text)
        self.assertEqual({each.rpartition("/")[2] for each in report.tests("Disabled")} - CHANGES, set())
        passed = Counter(each for each in report.tests("Pass") if each.startswith("read-only/"))
        self.assertEqual({each: passed[each] for each in READS}, READS)

    async def test_stable(self) -> None:
        """
        The released version, with what the mirror has to fetch.
        """
        await self.check("up/app", "1.1")

    async def test_next(self) -> None:
        """
        The next version, by the name of the default upstream.
        """
        await self.check("app", "dev")

    async def test_upstream_away(self) -> None:
        """
        What was pulled before passes when the upstream is gone.
        """
        await self.check("up/app", "1.1")
        await self.registry.stop()
        await self.check("up/app", "dev", alone=True)


_PLATFORMS: Final = (Platform.local(), Platform("linux", "s390x"))
