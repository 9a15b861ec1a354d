"""
Harnesses for documents and files: manifests, configs, C{hosts.toml},
C{config.json}, archives of images.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any, Final

from attrs import evolve
from hypothesis import strategies as st

from tests.fuzz.harness import Broken, Harness, check_message, only, same
from tests.fuzz.inputs import EDGES, SIZES, cut, damaged, documents
from tests.jobs.archives.samples import tar
from xferd.archive.contents import DOCUMENTS, Contents, StoredFile, choose_images
from xferd.archive.inflate import Inflater
from xferd.archive.tar_splitter import Member, TarSplitter, clean_name
from xferd.docker_config import parse_docker_config, parse_helper_answer, registry_of
from xferd.errors import BadArchive, BadDocument, BadInput, ConfigError, UnsupportedImage
from xferd.image_config import parse_config, platform_of, read_config
from xferd.media_types import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import Descriptor, Document, Manifest, document_type, parse_document
from xferd.registry.hosts.hosts_toml import parse_duration, parse_hosts_toml
from xferd.testing.images import sample_image

_IMAGE: Final = sample_image(2, 100)
_MANIFEST: Final = json.loads(_IMAGE.manifest.data)
_CONFIG: Final = json.loads(_IMAGE.config.read())
_TYPES: Final = st.sampled_from((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, "text/plain", ""))

# ----------------------------------------------------------------- documents

_VALUES: Final = st.sampled_from(
    (
        _MANIFEST,
        {k: v for k, v in _MANIFEST.items() if k != "mediaType"},
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [_IMAGE.manifest.descriptor.to_json()] * 2},
        {
            **_MANIFEST,
            "config": {
                **_MANIFEST["config"],
                "data": b64encode(_IMAGE.config.read()).decode(),
                "urls": ["http://x/"],
            },
            "subject": _MANIFEST["config"],
            "annotations": {"a": "b"},
        },
    )
)


def check_document(given: tuple[str, bytes]) -> None:
    """
    A manifest or an index is read or refused.  What is read of a descriptor is
    the same when it is written and read again, and nothing that is taken has
    two meanings.
    """
    media_type, data = given
    with only(BadDocument):
        assert isinstance(document_type(data), str)
    with only(BadDocument, UnsupportedImage):
        found = parse_document(Document.verified(media_type, data))
        listed = [found.config, *found.layers] if isinstance(found, Manifest) else list(found.manifests)
        for descriptor in listed:
            again = Descriptor.from_json(descriptor.to_json(), "it", typed=False)
            same(again, descriptor, "a descriptor")
            if descriptor.data is not None:
                same(Digest.of(descriptor.data, descriptor.digest.algorithm), descriptor.digest, "data")
        value = json.loads(data)
        if isinstance(found, Manifest):
            found.check_runnable()
            same([d.size for d in found.layers], [v["size"] for v in value.get("layers") or []], "sizes")
        if "manifests" in value and {"layers", "config", "fsLayers"} & set(value):
            raise Broken("a document that is an image and an index is taken")


MANIFESTS: Final = Harness(
    "documents",
    st.tuples(_TYPES, documents(_VALUES) | damaged(_VALUES.map(lambda v: json.dumps(v).encode()))),
    check_document,
)


def check_config(data: bytes) -> None:
    """
    An image's config is read or refused; what is shown of it can be written
    as JSON in UTF-8.
    """
    manifest = parse_document(_IMAGE.manifest)
    assert isinstance(manifest, Manifest)
    with only(BadDocument):
        value = read_config(data, "config")
        json.dumps(value, ensure_ascii=False).encode()
    with only(BadDocument):
        found = parse_config(data, manifest)
        same(len(found.diff_ids), len(manifest.layers), "the number of layers")
        same(found.platform, platform_of(data, manifest.config.digest), "the platform")


CONFIGS: Final = Harness(
    "configs",
    documents(st.just(_CONFIG)) | damaged(st.just(_IMAGE.config.read())),
    check_config,
)

# ------------------------------------------------------------------ settings

_SECRET: Final = "hunter2hunter2"
_HOSTS_TOML: Final = st.sampled_from(
    (
        (
            b'server = "https://r.example"\n\n[host."https://mirror.example:5000"]\n'
            b'  capabilities = ["pull", "resolve"]\n  ca = ["ca.crt"]\n  client = [["a.cert", "a.key"]]\n'
            b'  skip_verify = false\n  dial_timeout = "1m30s"\n  override_path = true\n'
            b'  [host."https://mirror.example:5000".header]\n    authorization = ["Basic hunter2hunter2"]\n'
        ),
        b'[host."http://u:swordfish@[::1]:5000/v2"]\nproxy = "http://u:hunter2hunter2@proxy:3128"\n',
        b"capabilities = " + b"[" * 2000,
        b"capabilities = " + b"1" * 5000,
        b'[host."mirror"]\nunknown = 1\n[host."https://x/%zz?q#f"]\nclient = "a"\n',
    )
)


def check_hosts_file(data: bytes) -> None:
    """
    A C{hosts.toml} is read or refused in one sentence, which never quotes the
    value of a header or a proxy, or a password in the name of a server.
    """
    with only(ValueError):
        assert parse_duration(data.decode("latin-1")) >= 0
    try:
        found = parse_hosts_toml(data, "/etc/hosts.toml")
    except ConfigError as e:
        check_message(str(e))
        if _SECRET in str(e) or "swordfish@" in str(e):
            raise Broken(f"a secret is quoted: {e}") from e
        return
    for entry in found.entries:
        if not entry.capabilities or (not entry.path.startswith("/") and entry.path):
            raise Broken(f"{entry} is taken")
        if any("\r" in t or "\n" in t for pair in entry.headers for t in pair):
            raise Broken("a header of two lines is taken")
        if _SECRET in repr(entry) or "swordfish@" in entry.url:
            raise Broken(f"a secret is shown: {entry}")


HOSTS: Final = Harness(
    "hosts.toml", damaged(_HOSTS_TOML | st.sampled_from((b"1m30s", b".5h", b"1.\xc2\xb5s"))), check_hosts_file
)

_AUTH: Final = b64encode(f"user:{_SECRET}".encode()).decode()
_CONFIG_JSON: Final = st.sampled_from(
    (
        {
            "auths": {
                "https://index.docker.io/v1/": {"auth": _AUTH},
                "r.example:5000": {"username": "u", "password": _SECRET},
                "r.example/namespace": {"identitytoken": _SECRET},
                "empty": {},
            },
            "credHelpers": {"gcr.io": "gcloud"},
            "credsStore": "secretservice",
        },
        {"Username": "u", "Secret": _SECRET, "ServerURL": "x"},
    )
)


def check_docker_config(data: bytes) -> None:
    """
    A C{config.json} is read or refused in one sentence, which never quotes a
    secret; what is read can be sent, and its helpers are plain names.
    """
    found = parse_helper_answer(data, "helper")
    if found is not None:
        (found.username + found.password.reveal()).encode()
    try:
        config = parse_docker_config(data, "/root/.docker/config.json")
    except ConfigError as e:
        _check_secret(str(e))
        return
    for text in config.broken.values():
        _check_secret(text)
    _check_secret_only(repr(config))
    for key, credentials in config.auths.items():
        same(registry_of(key), key, "the registry of a key")
        for secret in (credentials.password, credentials.identity_token):
            secret.reveal().encode()
        credentials.username.encode()
        assert credentials.fingerprint
    for helper in (*config.helpers.values(), config.store):
        # It is looked for in PATH behind a prefix, so that dots lead nowhere.
        assert "/" not in helper and "\0" not in helper


def _check_secret(text: str) -> None:
    check_message(text)
    _check_secret_only(text)


def _check_secret_only(text: str) -> None:
    if _SECRET in text or _AUTH in text:
        raise Broken(f"a secret is quoted: {text}")


DOCKER_CONFIG: Final = Harness(
    "config.json",
    documents(_CONFIG_JSON) | damaged(_CONFIG_JSON.map(lambda v: json.dumps(v, indent=1).encode())),
    check_docker_config,
)

# ------------------------------------------------------------------ archives

_BLOB: Final = Digest.of(b"layer")


def _archive(value: Any) -> bytes:
    """
    A docker archive with a C{manifest.json}, or an OCI layout, or both.
    """
    files = {f"blobs/sha256/{_BLOB.hex}": b"layer", "config.json": b"{}"}
    if isinstance(value, list):
        return tar({**files, "manifest.json": json.dumps(value).encode()})
    layout = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(value).encode()}
    return tar({**files, **layout})


_LISTS: Final = st.sampled_from(
    (
        [{"Config": "config.json", "RepoTags": ["a:1", "b:2"], "Layers": [f"blobs/sha256/{_BLOB.hex}"]}],
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    **_IMAGE.manifest.descriptor.to_json(),
                    "annotations": {"org.opencontainers.image.ref.name": "1.0"},
                },
                {
                    **evolve(_IMAGE.manifest.descriptor, size=7).to_json(),
                    "annotations": {"io.containerd.image.name": "docker.io/library/a:1"},
                },
            ],
        },
    )
)


def _unloaded(pieces: list[bytes]) -> tuple[Any, Any]:
    """
    The content of an archive, or the reason why it is refused.
    """
    inflater, splitter, contents = Inflater(), TarSplitter(), Contents()
    kept: dict[str, bytearray] = {}
    try:
        member: Member | None = None
        views = [view for piece in pieces for view in inflater.feed(piece)]
        for view in [*views, *inflater.finish()]:
            for found in splitter.feed(view):
                if isinstance(found, Member):
                    member = found
                    if found.link is not None:
                        contents.links[found.name] = found.link
                    else:
                        kept[found.name] = bytearray()
                elif member is not None:
                    kept[member.name] += found
                    assert len(kept[member.name]) <= member.size
        splitter.finish()
        for name, data in kept.items():
            same(clean_name(name.encode()), name, "a clean name")
            if name.startswith("/") or ".." in name.split("/"):
                raise Broken(f"{name!r} leads out of the archive")
            if name in DOCUMENTS:
                contents.documents[name] = bytes(data)
            else:
                contents.files[name] = StoredFile(Digest.of(bytes(data)), len(data), bytes(data[:4]))
        images = contents.images()
        for wanted in (None, Reference.parse("a:1"), Reference.parse("a:1.0")):
            with only(BadInput):
                for image, names in choose_images(images, wanted):
                    assert names
                    if image.made is not None:
                        assert isinstance(parse_document(image.made), Manifest)
        return images, {name: bytes(data) for name, data in kept.items()}
    except (BadArchive, BadDocument, UnsupportedImage) as e:
        check_message(str(e))
        return type(e), str(e)


def check_archive(given: tuple[bytes, list[int]]) -> None:
    """
    An archive is read or refused; the same however its bytes arrive.  No name
    in it leads out of it.
    """
    data, sizes = given
    whole, parts = _unloaded([data]), _unloaded(cut(data, sizes))
    # The reason may depend on earlier bytes.
    same(parts[0], whole[0], "an archive in pieces and as a whole")
    if not isinstance(whole[0], type):
        same(parts[1], whole[1], "the files of an archive in pieces and as a whole")


ARCHIVES: Final = Harness(
    "archives",
    st.tuples(
        damaged(_LISTS.map(_archive))
        | documents(_LISTS).map(lambda data: _archive(json.loads(data)))
        | st.sampled_from(EDGES),
        SIZES,
    ),
    check_archive,
)
