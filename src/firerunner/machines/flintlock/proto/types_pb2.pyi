import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MicroVM(_message.Message):
    __slots__ = ("version", "spec", "status")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    version: int
    spec: MicroVMSpec
    status: MicroVMStatus
    def __init__(self, version: _Optional[int] = ..., spec: _Optional[_Union[MicroVMSpec, _Mapping]] = ..., status: _Optional[_Union[MicroVMStatus, _Mapping]] = ...) -> None: ...

class MicroVMSpec(_message.Message):
    __slots__ = ("id", "namespace", "labels", "vcpu", "memory_in_mb", "kernel", "initrd", "root_volume", "additional_volumes", "interfaces", "metadata", "created_at", "updated_at", "deleted_at", "uid", "provider", "allow_guest_agent")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VCPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_IN_MB_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    INITRD_FIELD_NUMBER: _ClassVar[int]
    ROOT_VOLUME_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_VOLUMES_FIELD_NUMBER: _ClassVar[int]
    INTERFACES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ALLOW_GUEST_AGENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    namespace: str
    labels: _containers.ScalarMap[str, str]
    vcpu: int
    memory_in_mb: int
    kernel: Kernel
    initrd: Initrd
    root_volume: Volume
    additional_volumes: _containers.RepeatedCompositeFieldContainer[Volume]
    interfaces: _containers.RepeatedCompositeFieldContainer[NetworkInterface]
    metadata: _containers.ScalarMap[str, str]
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    deleted_at: _timestamp_pb2.Timestamp
    uid: str
    provider: str
    allow_guest_agent: bool
    def __init__(self, id: _Optional[str] = ..., namespace: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., vcpu: _Optional[int] = ..., memory_in_mb: _Optional[int] = ..., kernel: _Optional[_Union[Kernel, _Mapping]] = ..., initrd: _Optional[_Union[Initrd, _Mapping]] = ..., root_volume: _Optional[_Union[Volume, _Mapping]] = ..., additional_volumes: _Optional[_Iterable[_Union[Volume, _Mapping]]] = ..., interfaces: _Optional[_Iterable[_Union[NetworkInterface, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deleted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., uid: _Optional[str] = ..., provider: _Optional[str] = ..., allow_guest_agent: _Optional[bool] = ...) -> None: ...

class Kernel(_message.Message):
    __slots__ = ("image", "cmdline", "filename", "add_network_config")
    class CmdlineEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CMDLINE_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    ADD_NETWORK_CONFIG_FIELD_NUMBER: _ClassVar[int]
    image: str
    cmdline: _containers.ScalarMap[str, str]
    filename: str
    add_network_config: bool
    def __init__(self, image: _Optional[str] = ..., cmdline: _Optional[_Mapping[str, str]] = ..., filename: _Optional[str] = ..., add_network_config: _Optional[bool] = ...) -> None: ...

class Initrd(_message.Message):
    __slots__ = ("image", "filename")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    image: str
    filename: str
    def __init__(self, image: _Optional[str] = ..., filename: _Optional[str] = ...) -> None: ...

class NetworkInterface(_message.Message):
    __slots__ = ("device_id", "type", "guest_mac", "address", "overrides")
    class IfaceType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MACVTAP: _ClassVar[NetworkInterface.IfaceType]
        TAP: _ClassVar[NetworkInterface.IfaceType]
    MACVTAP: NetworkInterface.IfaceType
    TAP: NetworkInterface.IfaceType
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    GUEST_MAC_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    type: NetworkInterface.IfaceType
    guest_mac: str
    address: StaticAddress
    overrides: NetworkOverrides
    def __init__(self, device_id: _Optional[str] = ..., type: _Optional[_Union[NetworkInterface.IfaceType, str]] = ..., guest_mac: _Optional[str] = ..., address: _Optional[_Union[StaticAddress, _Mapping]] = ..., overrides: _Optional[_Union[NetworkOverrides, _Mapping]] = ...) -> None: ...

class StaticAddress(_message.Message):
    __slots__ = ("address", "gateway", "nameservers")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    NAMESERVERS_FIELD_NUMBER: _ClassVar[int]
    address: str
    gateway: str
    nameservers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, address: _Optional[str] = ..., gateway: _Optional[str] = ..., nameservers: _Optional[_Iterable[str]] = ...) -> None: ...

class NetworkOverrides(_message.Message):
    __slots__ = ("bridge_name",)
    BRIDGE_NAME_FIELD_NUMBER: _ClassVar[int]
    bridge_name: str
    def __init__(self, bridge_name: _Optional[str] = ...) -> None: ...

class Volume(_message.Message):
    __slots__ = ("id", "is_read_only", "mount_point", "source", "partition_id", "size_in_mb")
    ID_FIELD_NUMBER: _ClassVar[int]
    IS_READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    MOUNT_POINT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PARTITION_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_IN_MB_FIELD_NUMBER: _ClassVar[int]
    id: str
    is_read_only: bool
    mount_point: str
    source: VolumeSource
    partition_id: str
    size_in_mb: int
    def __init__(self, id: _Optional[str] = ..., is_read_only: _Optional[bool] = ..., mount_point: _Optional[str] = ..., source: _Optional[_Union[VolumeSource, _Mapping]] = ..., partition_id: _Optional[str] = ..., size_in_mb: _Optional[int] = ...) -> None: ...

class VolumeSource(_message.Message):
    __slots__ = ("container_source", "virtiofs_source")
    CONTAINER_SOURCE_FIELD_NUMBER: _ClassVar[int]
    VIRTIOFS_SOURCE_FIELD_NUMBER: _ClassVar[int]
    container_source: str
    virtiofs_source: str
    def __init__(self, container_source: _Optional[str] = ..., virtiofs_source: _Optional[str] = ...) -> None: ...

class MicroVMStatus(_message.Message):
    __slots__ = ("state", "volumes", "kernel_mount", "initrd_mount", "network_interfaces", "retry", "vsock_path")
    class MicroVMState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PENDING: _ClassVar[MicroVMStatus.MicroVMState]
        CREATED: _ClassVar[MicroVMStatus.MicroVMState]
        FAILED: _ClassVar[MicroVMStatus.MicroVMState]
        DELETING: _ClassVar[MicroVMStatus.MicroVMState]
    PENDING: MicroVMStatus.MicroVMState
    CREATED: MicroVMStatus.MicroVMState
    FAILED: MicroVMStatus.MicroVMState
    DELETING: MicroVMStatus.MicroVMState
    class VolumesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: VolumeStatus
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[VolumeStatus, _Mapping]] = ...) -> None: ...
    class NetworkInterfacesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: NetworkInterfaceStatus
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[NetworkInterfaceStatus, _Mapping]] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    KERNEL_MOUNT_FIELD_NUMBER: _ClassVar[int]
    INITRD_MOUNT_FIELD_NUMBER: _ClassVar[int]
    NETWORK_INTERFACES_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    VSOCK_PATH_FIELD_NUMBER: _ClassVar[int]
    state: MicroVMStatus.MicroVMState
    volumes: _containers.MessageMap[str, VolumeStatus]
    kernel_mount: Mount
    initrd_mount: Mount
    network_interfaces: _containers.MessageMap[str, NetworkInterfaceStatus]
    retry: int
    vsock_path: str
    def __init__(self, state: _Optional[_Union[MicroVMStatus.MicroVMState, str]] = ..., volumes: _Optional[_Mapping[str, VolumeStatus]] = ..., kernel_mount: _Optional[_Union[Mount, _Mapping]] = ..., initrd_mount: _Optional[_Union[Mount, _Mapping]] = ..., network_interfaces: _Optional[_Mapping[str, NetworkInterfaceStatus]] = ..., retry: _Optional[int] = ..., vsock_path: _Optional[str] = ...) -> None: ...

class VolumeStatus(_message.Message):
    __slots__ = ("mount",)
    MOUNT_FIELD_NUMBER: _ClassVar[int]
    mount: Mount
    def __init__(self, mount: _Optional[_Union[Mount, _Mapping]] = ...) -> None: ...

class Mount(_message.Message):
    __slots__ = ("type", "source")
    class MountType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DEV: _ClassVar[Mount.MountType]
        HOSTPATH: _ClassVar[Mount.MountType]
    DEV: Mount.MountType
    HOSTPATH: Mount.MountType
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    type: Mount.MountType
    source: str
    def __init__(self, type: _Optional[_Union[Mount.MountType, str]] = ..., source: _Optional[str] = ...) -> None: ...

class NetworkInterfaceStatus(_message.Message):
    __slots__ = ("host_device_name", "index", "mac_address")
    HOST_DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    MAC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    host_device_name: str
    index: int
    mac_address: str
    def __init__(self, host_device_name: _Optional[str] = ..., index: _Optional[int] = ..., mac_address: _Optional[str] = ...) -> None: ...
