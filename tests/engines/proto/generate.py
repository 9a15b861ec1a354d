"""
How the modules of C{xferd.engines.proto} are made of the C{.proto} files.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

import xferd.engines.proto

PROTO = Path(xferd.engines.proto.__file__).parent

_INCLUDES = Path(protoc.__file__).parent / "_proto"
"""The C{.proto} files of protobuf's own messages."""


def sources() -> list[Path]:
    """
    The C{.proto} files.
    """
    return sorted(PROTO.glob("*.proto"))


def compiled(source: Path) -> tuple[FileDescriptorProto, str]:
    """
    What C{protoc} makes of a C{.proto} file.

    @return: the descriptor, and the text of C{X_pb2.pyi}.
    """
    with TemporaryDirectory() as directory:
        found = Path(directory, "set")
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTO}",
                f"--proto_path={_INCLUDES}",
                f"--descriptor_set_out={found}",
                f"--pyi_out={directory}",
                source.name,
            ]
        )
        assert status == 0, source
        (descriptor,) = FileDescriptorSet.FromString(found.read_bytes()).file
        # Names are unique among all packages that make messages.
        descriptor.name = f"xferd/engines/proto/{source.name}"
        stub = Path(directory, f"{source.stem}_pb2.pyi").read_text()
    return descriptor, stub


def module(descriptor: FileDescriptorProto, name: str) -> str:
    """
    The text of C{X_pb2.py}.

    @param name: the name of the C{.proto} file.
    """
    imports = sorted(x.removesuffix(".proto").replace("/", ".") for x in descriptor.dependency)
    data = descriptor.SerializeToString(deterministic=True)
    lines = [
        '"""',
        f'The messages of C{{{name}}}.  Made by "python -m tests.engines.proto": do not edit.',
        '"""',
        "",
        *(f"import {x}_pb2" for x in imports),
        "from google.protobuf.descriptor_pool import Default",
        "from google.protobuf.message_factory import GetMessageClass",
        "",
        "DESCRIPTOR = Default().AddSerializedFile(",
        *(f"    {data[at : at + 60]!r}" for at in range(0, len(data), 60)),
        ")",
        "",
        *(
            f'{m.name} = GetMessageClass(DESCRIPTOR.message_types_by_name["{m.name}"])'
            for m in descriptor.message_type
        ),
        "",
    ]
    return "\n".join(lines)
