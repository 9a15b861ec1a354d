"""
The messages of C{snapshots.proto}.  Made by "python -m tests.engines.proto": do not edit.
"""

import google.protobuf.empty_pb2
import google.protobuf.field_mask_pb2
import google.protobuf.timestamp_pb2
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR = Default().AddSerializedFile(
    b'\n#xferd/engines/proto/snapshots.proto\x12 containerd.services.s'
    b'napshots.v1\x1a\x1bgoogle/protobuf/empty.proto\x1a google/protobuf/fi'
    b'eld_mask.proto\x1a\x1fgoogle/protobuf/timestamp.proto"e\n\x05Mount\x12\x12\n\x04'
    b'type\x18\x01 \x01(\tR\x04type\x12\x16\n\x06source\x18\x02 \x01(\tR\x06source\x12\x16\n\x06target\x18\x03 \x01(\tR\x06ta'
    b'rget\x12\x18\n\x07options\x18\x04 \x03(\tR\x07options"\xaa\x03\n\x04Info\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12'
    b'\x16\n\x06parent\x18\x02 \x01(\tR\x06parent\x12?\n\x04kind\x18\x03 \x01(\x0e2+.containerd.services.'
    b'snapshots.v1.Info.KindR\x04kind\x129\n\ncreated_at\x18\x04 \x01(\x0b2\x1a.google.pr'
    b'otobuf.TimestampR\tcreatedAt\x129\n\nupdated_at\x18\x05 \x01(\x0b2\x1a.google.pro'
    b'tobuf.TimestampR\tupdatedAt\x12J\n\x06labels\x18\x06 \x03(\x0b22.containerd.serv'
    b'ices.snapshots.v1.Info.LabelsEntryR\x06labels\x1a9\n\x0bLabelsEntry\x12\x10\n'
    b'\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01"8\n\x04Kind\x12\x0b\n\x07UNKNOWN'
    b'\x10\x00\x12\x08\n\x04VIEW\x10\x01\x12\n\n\x06ACTIVE\x10\x02\x12\r\n\tCOMMITTED\x10\x03"\xfd\x01\n\x16PrepareSnapshotR'
    b'equest\x12 \n\x0bsnapshotter\x18\x01 \x01(\tR\x0bsnapshotter\x12\x10\n\x03key\x18\x02 \x01(\tR\x03key\x12\x16'
    b'\n\x06parent\x18\x03 \x01(\tR\x06parent\x12\\\n\x06labels\x18\x04 \x03(\x0b2D.containerd.services'
    b'.snapshots.v1.PrepareSnapshotRequest.LabelsEntryR\x06labels\x1a9\n\x0b'
    b'LabelsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01"Z\n\x17P'
    b"repareSnapshotResponse\x12?\n\x06mounts\x18\x01 \x03(\x0b2'.containerd.services"
    b'.snapshots.v1.MountR\x06mounts"\xf7\x01\n\x13ViewSnapshotRequest\x12 \n\x0bsnaps'
    b'hotter\x18\x01 \x01(\tR\x0bsnapshotter\x12\x10\n\x03key\x18\x02 \x01(\tR\x03key\x12\x16\n\x06parent\x18\x03 \x01(\tR'
    b'\x06parent\x12Y\n\x06labels\x18\x04 \x03(\x0b2A.containerd.services.snapshots.v1.V'
    b'iewSnapshotRequest.LabelsEntryR\x06labels\x1a9\n\x0bLabelsEntry\x12\x10\n\x03key'
    b'\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01"W\n\x14ViewSnapshotRespons'
    b"e\x12?\n\x06mounts\x18\x01 \x03(\x0b2'.containerd.services.snapshots.v1.MountR\x06"
    b'mounts"C\n\rMountsRequest\x12 \n\x0bsnapshotter\x18\x01 \x01(\tR\x0bsnapshotter\x12\x10\n'
    b'\x03key\x18\x02 \x01(\tR\x03key"Q\n\x0eMountsResponse\x12?\n\x06mounts\x18\x01 \x03(\x0b2\'.containe'
    b'rd.services.snapshots.v1.MountR\x06mounts"K\n\x15RemoveSnapshotRequ'
    b'est\x12 \n\x0bsnapshotter\x18\x01 \x01(\tR\x0bsnapshotter\x12\x10\n\x03key\x18\x02 \x01(\tR\x03key"\x8f\x02\n\x15'
    b'CommitSnapshotRequest\x12 \n\x0bsnapshotter\x18\x01 \x01(\tR\x0bsnapshotter\x12\x12\n\x04n'
    b'ame\x18\x02 \x01(\tR\x04name\x12\x10\n\x03key\x18\x03 \x01(\tR\x03key\x12[\n\x06labels\x18\x04 \x03(\x0b2C.containe'
    b'rd.services.snapshots.v1.CommitSnapshotRequest.LabelsEntryR\x06'
    b'labels\x12\x16\n\x06parent\x18\x05 \x01(\tR\x06parent\x1a9\n\x0bLabelsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03'
    b'key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01"I\n\x13StatSnapshotRequest\x12 \n\x0bsnap'
    b'shotter\x18\x01 \x01(\tR\x0bsnapshotter\x12\x10\n\x03key\x18\x02 \x01(\tR\x03key"R\n\x14StatSnapshot'
    b'Response\x12:\n\x04info\x18\x01 \x01(\x0b2&.containerd.services.snapshots.v1.In'
    b'foR\x04info"\xb2\x01\n\x15UpdateSnapshotRequest\x12 \n\x0bsnapshotter\x18\x01 \x01(\tR\x0bsna'
    b'pshotter\x12:\n\x04info\x18\x02 \x01(\x0b2&.containerd.services.snapshots.v1.In'
    b'foR\x04info\x12;\n\x0bupdate_mask\x18\x03 \x01(\x0b2\x1a.google.protobuf.FieldMaskR\nu'
    b'pdateMask"T\n\x16UpdateSnapshotResponse\x12:\n\x04info\x18\x01 \x01(\x0b2&.containe'
    b'rd.services.snapshots.v1.InfoR\x04info"R\n\x14ListSnapshotsRequest\x12'
    b' \n\x0bsnapshotter\x18\x01 \x01(\tR\x0bsnapshotter\x12\x18\n\x07filters\x18\x02 \x03(\tR\x07filters"'
    b'S\n\x15ListSnapshotsResponse\x12:\n\x04info\x18\x01 \x03(\x0b2&.containerd.services'
    b'.snapshots.v1.InfoR\x04info"B\n\x0cUsageRequest\x12 \n\x0bsnapshotter\x18\x01 \x01('
    b'\tR\x0bsnapshotter\x12\x10\n\x03key\x18\x02 \x01(\tR\x03key";\n\rUsageResponse\x12\x12\n\x04size\x18\x01 '
    b'\x01(\x03R\x04size\x12\x16\n\x06inodes\x18\x02 \x01(\x03R\x06inodes"2\n\x0eCleanupRequest\x12 \n\x0bsnaps'
    b'hotter\x18\x01 \x01(\tR\x0bsnapshotter2\xd3\x08\n\tSnapshots\x12~\n\x07Prepare\x128.contain'
    b'erd.services.snapshots.v1.PrepareSnapshotRequest\x1a9.container'
    b'd.services.snapshots.v1.PrepareSnapshotResponse\x12u\n\x04View\x125.co'
    b'ntainerd.services.snapshots.v1.ViewSnapshotRequest\x1a6.contain'
    b'erd.services.snapshots.v1.ViewSnapshotResponse\x12k\n\x06Mounts\x12/.c'
    b'ontainerd.services.snapshots.v1.MountsRequest\x1a0.containerd.s'
    b'ervices.snapshots.v1.MountsResponse\x12Y\n\x06Commit\x127.containerd.s'
    b'ervices.snapshots.v1.CommitSnapshotRequest\x1a\x16.google.protobuf'
    b'.Empty\x12Y\n\x06Remove\x127.containerd.services.snapshots.v1.RemoveSn'
    b'apshotRequest\x1a\x16.google.protobuf.Empty\x12u\n\x04Stat\x125.containerd.s'
    b'ervices.snapshots.v1.StatSnapshotRequest\x1a6.containerd.servic'
    b'es.snapshots.v1.StatSnapshotResponse\x12{\n\x06Update\x127.containerd.'
    b'services.snapshots.v1.UpdateSnapshotRequest\x1a8.containerd.ser'
    b'vices.snapshots.v1.UpdateSnapshotResponse\x12y\n\x04List\x126.containe'
    b'rd.services.snapshots.v1.ListSnapshotsRequest\x1a7.containerd.s'
    b'ervices.snapshots.v1.ListSnapshotsResponse0\x01\x12h\n\x05Usage\x12..cont'
    b'ainerd.services.snapshots.v1.UsageRequest\x1a/.containerd.servi'
    b'ces.snapshots.v1.UsageResponse\x12S\n\x07Cleanup\x120.containerd.servi'
    b'ces.snapshots.v1.CleanupRequest\x1a\x16.google.protobuf.Emptyb\x06pro'
    b'to3'
)

Mount = GetMessageClass(DESCRIPTOR.message_types_by_name["Mount"])
Info = GetMessageClass(DESCRIPTOR.message_types_by_name["Info"])
PrepareSnapshotRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["PrepareSnapshotRequest"])
PrepareSnapshotResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["PrepareSnapshotResponse"])
ViewSnapshotRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["ViewSnapshotRequest"])
ViewSnapshotResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["ViewSnapshotResponse"])
MountsRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["MountsRequest"])
MountsResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["MountsResponse"])
RemoveSnapshotRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["RemoveSnapshotRequest"])
CommitSnapshotRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["CommitSnapshotRequest"])
StatSnapshotRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["StatSnapshotRequest"])
StatSnapshotResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["StatSnapshotResponse"])
UpdateSnapshotRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["UpdateSnapshotRequest"])
UpdateSnapshotResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["UpdateSnapshotResponse"])
ListSnapshotsRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["ListSnapshotsRequest"])
ListSnapshotsResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["ListSnapshotsResponse"])
UsageRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["UsageRequest"])
UsageResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["UsageResponse"])
CleanupRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["CleanupRequest"])
