"""
The messages of C{namespaces.proto}.  Made by "python -m tests.engines.proto": do not edit.
"""

from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR = Default().AddSerializedFile(
    b'\n$xferd/engines/proto/namespaces.proto\x12!containerd.services.'
    b'namespaces.v1"\x1f\n\tNamespace\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"/\n\x15ListNamesp'
    b'acesRequest\x12\x16\n\x06filter\x18\x01 \x01(\tR\x06filter"f\n\x16ListNamespacesRespons'
    b'e\x12L\n\nnamespaces\x18\x01 \x03(\x0b2,.containerd.services.namespaces.v1.Na'
    b'mespaceR\nnamespacesb\x06proto3'
)

Namespace = GetMessageClass(DESCRIPTOR.message_types_by_name["Namespace"])
ListNamespacesRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["ListNamespacesRequest"])
ListNamespacesResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["ListNamespacesResponse"])
