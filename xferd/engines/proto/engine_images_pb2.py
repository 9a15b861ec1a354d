"""
The messages of C{engine_images.proto}.  Made by "python -m tests.engines.proto": do not edit.
"""

from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR = Default().AddSerializedFile(
    b"\n'xferd/engines/proto/engine_images.proto\x12\x1dcontainerd.servic"
    b'es.images.v1"W\n\nDescriptor\x12\x1d\n\nmedia_type\x18\x01 \x01(\tR\tmediaType\x12\x16\n'
    b'\x06digest\x18\x02 \x01(\tR\x06digest\x12\x12\n\x04size\x18\x03 \x01(\x03R\x04size"^\n\x05Image\x12\x12\n\x04name\x18\x01'
    b' \x01(\tR\x04name\x12A\n\x06target\x18\x03 \x01(\x0b2).containerd.services.images.v1.D'
    b'escriptorR\x06target"%\n\x0fGetImageRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"N\n\x10'
    b'GetImageResponse\x12:\n\x05image\x18\x01 \x01(\x0b2$.containerd.services.images'
    b'.v1.ImageR\x05imageb\x06proto3'
)

Descriptor = GetMessageClass(DESCRIPTOR.message_types_by_name["Descriptor"])
Image = GetMessageClass(DESCRIPTOR.message_types_by_name["Image"])
GetImageRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["GetImageRequest"])
GetImageResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["GetImageResponse"])
