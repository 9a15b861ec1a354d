"""
The messages of C{cri.proto}.  Made by "python -m tests.engines.proto": do not edit.
"""

from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR = Default().AddSerializedFile(
    b'\n\x1dxferd/engines/proto/cri.proto\x12\nruntime.v1"!\n\tImageSpec\x12\x14\n\x05'
    b'image\x18\x01 \x01(\tR\x05image"\xcd\x01\n\nAuthConfig\x12\x1a\n\x08username\x18\x01 \x01(\tR\x08usernam'
    b'e\x12\x1a\n\x08password\x18\x02 \x01(\tR\x08password\x12\x12\n\x04auth\x18\x03 \x01(\tR\x04auth\x12%\n\x0eserver_'
    b'address\x18\x04 \x01(\tR\rserverAddress\x12%\n\x0eidentity_token\x18\x05 \x01(\tR\ridenti'
    b'tyToken\x12%\n\x0eregistry_token\x18\x06 \x01(\tR\rregistryToken"k\n\x10PullImageR'
    b'equest\x12+\n\x05image\x18\x01 \x01(\x0b2\x15.runtime.v1.ImageSpecR\x05image\x12*\n\x04auth\x18'
    b'\x02 \x01(\x0b2\x16.runtime.v1.AuthConfigR\x04auth"0\n\x11PullImageResponse\x12\x1b\n\t'
    b'image_ref\x18\x01 \x01(\tR\x08imageRefb\x06proto3'
)

ImageSpec = GetMessageClass(DESCRIPTOR.message_types_by_name["ImageSpec"])
AuthConfig = GetMessageClass(DESCRIPTOR.message_types_by_name["AuthConfig"])
PullImageRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["PullImageRequest"])
PullImageResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["PullImageResponse"])
