"""
The messages of C{content.proto}.  Made by "python -m tests.engines.proto": do not edit.
"""

from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR = Default().AddSerializedFile(
    b'\n!xferd/engines/proto/content.proto\x12\x1econtainerd.services.con'
    b'tent.v1"\xb7\x01\n\x04Info\x12\x16\n\x06digest\x18\x01 \x01(\tR\x06digest\x12\x12\n\x04size\x18\x02 \x01(\x03R\x04size'
    b'\x12H\n\x06labels\x18\x05 \x03(\x0b20.containerd.services.content.v1.Info.Label'
    b'sEntryR\x06labels\x1a9\n\x0bLabelsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01'
    b'(\tR\x05value:\x028\x01"%\n\x0bInfoRequest\x12\x16\n\x06digest\x18\x01 \x01(\tR\x06digest"H\n\x0cInfo'
    b'Response\x128\n\x04info\x18\x01 \x01(\x0b2$.containerd.services.content.v1.Info'
    b'R\x04info"X\n\x12ReadContentRequest\x12\x16\n\x06digest\x18\x01 \x01(\tR\x06digest\x12\x16\n\x06offs'
    b'et\x18\x02 \x01(\x03R\x06offset\x12\x12\n\x04size\x18\x03 \x01(\x03R\x04size"A\n\x13ReadContentResponse\x12'
    b'\x16\n\x06offset\x18\x01 \x01(\x03R\x06offset\x12\x12\n\x04data\x18\x02 \x01(\x0cR\x04data"\x98\x03\n\x13WriteContent'
    b'Request\x12R\n\x06action\x18\x01 \x01(\x0e2:.containerd.services.content.v1.Wri'
    b'teContentRequest.ActionR\x06action\x12\x10\n\x03ref\x18\x02 \x01(\tR\x03ref\x12\x14\n\x05total\x18\x03'
    b' \x01(\x03R\x05total\x12\x1a\n\x08expected\x18\x04 \x01(\tR\x08expected\x12\x16\n\x06offset\x18\x05 \x01(\x03R\x06off'
    b'set\x12\x12\n\x04data\x18\x06 \x01(\x0cR\x04data\x12W\n\x06labels\x18\x07 \x03(\x0b2?.containerd.service'
    b's.content.v1.WriteContentRequest.LabelsEntryR\x06labels\x1a9\n\x0bLabe'
    b'lsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01")\n\x06Actio'
    b'n\x12\x08\n\x04STAT\x10\x00\x12\t\n\x05WRITE\x10\x01\x12\n\n\x06COMMIT\x10\x02"\xb0\x01\n\x14WriteContentResponse\x12'
    b'R\n\x06action\x18\x01 \x01(\x0e2:.containerd.services.content.v1.WriteConten'
    b'tRequest.ActionR\x06action\x12\x16\n\x06offset\x18\x04 \x01(\x03R\x06offset\x12\x14\n\x05total\x18\x05 \x01'
    b'(\x03R\x05total\x12\x16\n\x06digest\x18\x06 \x01(\tR\x06digestb\x06proto3'
)

Info = GetMessageClass(DESCRIPTOR.message_types_by_name["Info"])
InfoRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["InfoRequest"])
InfoResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["InfoResponse"])
ReadContentRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["ReadContentRequest"])
ReadContentResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["ReadContentResponse"])
WriteContentRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["WriteContentRequest"])
WriteContentResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["WriteContentResponse"])
