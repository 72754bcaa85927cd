from firerunner.machines.flintlock.proto import types_pb2 as _types_pb2
from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateMicroVMRequest(_message.Message):
    __slots__ = ("microvm", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _any_pb2.Any
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_any_pb2.Any, _Mapping]] = ...) -> None: ...
    MICROVM_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    microvm: _types_pb2.MicroVMSpec
    metadata: _containers.MessageMap[str, _any_pb2.Any]
    def __init__(self, microvm: _Optional[_Union[_types_pb2.MicroVMSpec, _Mapping]] = ..., metadata: _Optional[_Mapping[str, _any_pb2.Any]] = ...) -> None: ...

class CreateMicroVMResponse(_message.Message):
    __slots__ = ("microvm",)
    MICROVM_FIELD_NUMBER: _ClassVar[int]
    microvm: _types_pb2.MicroVM
    def __init__(self, microvm: _Optional[_Union[_types_pb2.MicroVM, _Mapping]] = ...) -> None: ...

class DeleteMicroVMRequest(_message.Message):
    __slots__ = ("uid",)
    UID_FIELD_NUMBER: _ClassVar[int]
    uid: str
    def __init__(self, uid: _Optional[str] = ...) -> None: ...

class GetMicroVMRequest(_message.Message):
    __slots__ = ("uid",)
    UID_FIELD_NUMBER: _ClassVar[int]
    uid: str
    def __init__(self, uid: _Optional[str] = ...) -> None: ...

class GetMicroVMResponse(_message.Message):
    __slots__ = ("microvm",)
    MICROVM_FIELD_NUMBER: _ClassVar[int]
    microvm: _types_pb2.MicroVM
    def __init__(self, microvm: _Optional[_Union[_types_pb2.MicroVM, _Mapping]] = ...) -> None: ...

class ListMicroVMsRequest(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ListMicroVMsResponse(_message.Message):
    __slots__ = ("microvm",)
    MICROVM_FIELD_NUMBER: _ClassVar[int]
    microvm: _containers.RepeatedCompositeFieldContainer[_types_pb2.MicroVM]
    def __init__(self, microvm: _Optional[_Iterable[_Union[_types_pb2.MicroVM, _Mapping]]] = ...) -> None: ...

class ListMessage(_message.Message):
    __slots__ = ("microvm",)
    MICROVM_FIELD_NUMBER: _ClassVar[int]
    microvm: _types_pb2.MicroVM
    def __init__(self, microvm: _Optional[_Union[_types_pb2.MicroVM, _Mapping]] = ...) -> None: ...
