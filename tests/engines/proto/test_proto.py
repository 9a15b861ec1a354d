"""
Tests that the modules of C{xferd.engines.proto} are what their C{.proto} files say.
"""

from __future__ import annotations

import ast
from importlib import import_module
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from twisted.trial.unittest import SynchronousTestCase

from tests.engines.proto.generate import PROTO, compiled, sources


def stubs(body: list[ast.stmt], prefix: str = "") -> dict[str, set[str]]:
    """
    The classes of a stub file, with the names of their fields or values.
    """
    found: dict[str, set[str]] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found[prefix + node.name] = {
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign)
                and isinstance(item.target, ast.Name)
                and not item.target.id.endswith("_FIELD_NUMBER")
            }
            found |= stubs(node.body, f"{prefix}{node.name}.")
    return found


def described(message: Any, prefix: str = "") -> dict[str, set[str]]:
    """
    The same of a message's descriptor.
    """
    name = prefix + message.name
    values = {value.name for enum in message.enum_type for value in enum.value}
    found = {name: {field.name for field in message.field} | values}
    for enum in message.enum_type:
        found[f"{name}.{enum.name}"] = {value.name for value in enum.value}
    for nested in message.nested_type:
        found |= described(nested, f"{name}.")
    return found


class ProtoTests(SynchronousTestCase):
    """
    The modules beside the C{.proto} files.
    """

    def test_complete(self) -> None:
        """
        There are modules for all files, and no others.
        """
        stems = {f"{source.stem}_pb2" for source in sources()}
        self.assertTrue(stems)
        for suffix in ("py", "pyi"):
            self.assertEqual({path.stem for path in PROTO.glob(f"*_pb2.{suffix}")}, stems)

    def test_descriptors(self) -> None:
        """
        A module has the descriptor that the compiler makes of its file, a class for
        each message, and types for each field.
        """
        for source in sources():
            descriptor, _ = compiled(source)
            module = import_module(f"xferd.engines.proto.{source.stem}_pb2")
            kept = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
            self.assertEqual(kept, descriptor, f"run python -m tests.engines.proto: {source}")
            wanted: dict[str, set[str]] = {}
            for message in descriptor.message_type:
                self.assertIs(getattr(module, message.name).DESCRIPTOR.file, module.DESCRIPTOR)
                wanted |= described(message)
            stub = ast.parse(source.with_name(f"{source.stem}_pb2.pyi").read_text())
            self.assertEqual(stubs(stub.body), wanted)
