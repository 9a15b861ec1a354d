"""
The messages of C{leases.proto}.  Made by "python -m tests.engines.proto": do not edit.
"""

from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR = Default().AddSerializedFile(
    b'\n xferd/engines/proto/leases.proto\x12\x1dcontainerd.services.leas'
    b'es.v1"\x9c\x01\n\x05Lease\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id\x12H\n\x06labels\x18\x03 \x03(\x0b20.containerd'
    b'.services.leases.v1.Lease.LabelsEntryR\x06labels\x1a9\n\x0bLabelsEntry'
    b'\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01"\xac\x01\n\rCreateReque'
    b'st\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id\x12P\n\x06labels\x18\x03 \x03(\x0b28.containerd.services.lea'
    b'ses.v1.CreateRequest.LabelsEntryR\x06labels\x1a9\n\x0bLabelsEntry\x12\x10\n\x03k'
    b'ey\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01"L\n\x0eCreateResponse\x12:\n'
    b'\x05lease\x18\x01 \x01(\x0b2$.containerd.services.leases.v1.LeaseR\x05lease"3\n'
    b'\rDeleteRequest\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id\x12\x12\n\x04sync\x18\x02 \x01(\x08R\x04syncb\x06proto3'
)

Lease = GetMessageClass(DESCRIPTOR.message_types_by_name["Lease"])
CreateRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["CreateRequest"])
CreateResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["CreateResponse"])
DeleteRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["DeleteRequest"])
