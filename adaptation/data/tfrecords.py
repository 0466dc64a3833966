"""Records: labelled images as `tf.train.Example` in TFRecord files, written and read without TensorFlow.

Sources of the two contracts: tensorflow/core/example/example.proto and feature.proto for the message (its descriptor is
rebuilt here, in a pool of its own, so that it never meets TensorFlow's); tensorflow/core/lib/io/record_writer.h for the
file: a record is its length (uint64), the masked CRC-32C of the length, the data, the masked CRC-32C of the data.

Messages are read with protobuf but written without it: there are very many, and filling a message object takes several
times as long as writing its bytes. They are those of protobuf's deterministic serialization: features by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from adaptation.errors import AdaptationError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LENGTH_DELIMITED = 2
_UINT64 = 2**64 - 1


class CorruptRecords(AdaptationError, ValueError):
    """A TFRecord file that was cut off or changed."""


@dataclass(frozen=True)
class LabelledImage:
    """One record.

    Attributes:
      image: The encoded bytes as they came (JPEG or PNG).
      label: Index of the label in the label names.
      id: Name of the file that it came from, relative to its batch.
      span: Number of the span.
    """

    image: bytes
    label: int
    id: str
    span: int

    def to_record(self) -> bytes:
        """Return the record as TFRecord bytes; the same image gives the same bytes."""
        name = self.id.encode()
        features = (_head(b"id", len(name)), name, _head(b"image", len(self.image)), self.image)
        return frame(_field(1, b"".join((*features, _number(b"label", self.label), _number(b"span", self.span)))))

    @classmethod
    def parse(cls, data: bytes) -> LabelledImage:
        """Return the image in a serialized Example.

        Raises:
          CorruptRecords: The data is no Example, or has not exactly one value of each feature.
        """
        match parse_features(data):
            case {"image": [bytes(image)], "label": [int(label)], "id": [bytes(name)], "span": [int(span)]}:
                return cls(image, label, name.decode(), span)
        raise CorruptRecords(
            "a record is no Example with one image, label, id and span. Prepare the span again, or fix its source."
        )


def parse_features(data: bytes) -> dict[str, list[bytes | float | int]]:
    """Return the features of a serialized Example, whatever they are.

    Raises:
      CorruptRecords: The data is no Example.
    """
    try:
        features = _example_class().FromString(data).features.feature
    except DecodeError as error:
        raise CorruptRecords("a record is no tf.train.Example. Restore the file from its source.") from error
    return {name: list(_values(feature)) for name, feature in features.items()}


def frame(data: bytes) -> bytes:
    """Return the data as one TFRecord."""
    length = struct.pack("<Q", len(data))
    return b"".join([length, _FOOTER.pack(_masked_crc(length)), data, _FOOTER.pack(_masked_crc(data))])


def unframe(content: bytes, name: str) -> Iterator[bytes]:
    """Yield the data of each record in a TFRecord file's content.

    Raises:
      CorruptRecords: A length or checksum is wrong, or the file ends within a record; `name` is in the message.
    """
    start = 0
    while start < len(content):
        data, start = _next_record(content, start, name)
        yield data


def crc32c(data: bytes) -> str:
    """Return the CRC-32C of a file's content, as 8 hex digits."""
    return f"{google_crc32c.value(data):08x}"


def _field(number: int, data: bytes) -> bytes:
    """Return a field of a message: bytes, or another message (source: protobuf.dev/programming-guides/encoding)."""
    return _opening(number, len(data)) + data


def _opening(number: int, size: int) -> bytes:
    """Return the bytes before a field's content of this size."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(size)


def _varint(value: int) -> bytes:
    rest, groups = value & _UINT64, bytearray()
    while rest > 0x7F:
        groups.append(rest & 0x7F | 0x80)
        rest >>= 7
    groups.append(rest)
    return bytes(groups)


@lru_cache(maxsize=1024)
def _number(name: bytes, value: int) -> bytes:
    """Return a feature with one int64, as an entry of the map `Features.feature`."""
    return _field(1, _field(1, name) + _field(2, _field(3, _field(1, _varint(value)))))


@lru_cache(maxsize=1024)  # small images have few different sizes
def _head(name: bytes, size: int) -> bytes:
    """Return the bytes before the content of a feature that holds nothing else, as an entry of the same map."""
    head = b""
    for number in (1, 1, 2):  # BytesList.value, Feature.bytes_list, the entry's value; from the inside out
        head = _opening(number, len(head) + size) + head
    head = _field(1, name) + head
    return _opening(1, len(head) + size) + head


def _values(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    return getattr(feature, kind).value if kind else ()


def _next_record(content: bytes, start: int, name: str) -> tuple[bytes, int]:
    try:
        length, length_crc = _HEADER.unpack_from(content, start)
        end = start + _HEADER.size + length
        (data_crc,) = _FOOTER.unpack_from(content, end)
    except (struct.error, OverflowError) as error:
        raise CorruptRecords(
            f"{name} ends within the record at byte {start}. Restore the file from its source."
        ) from error
    data = content[start + _HEADER.size : end]
    if length_crc != _masked_crc(content[start : start + 8]) or data_crc != _masked_crc(data):
        raise CorruptRecords(f"{name} has a wrong checksum at byte {start}. Restore the file from its source.")
    return data, end + _FOOTER.size


def _masked_crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _example_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    kind = descriptor_pb2.FieldDescriptorProto
    scalars = {"BytesList": kind.TYPE_BYTES, "FloatList": kind.TYPE_FLOAT, "Int64List": kind.TYPE_INT64}
    for name, scalar in scalars.items():
        values = file.message_type.add(name=name)
        values.field.add(name="value", number=1, label=kind.LABEL_REPEATED, type=scalar)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(scalars, start=1):
        field = feature.field.add(name=name.removesuffix("List").lower() + "_list", number=number, oneof_index=0)
        field.label, field.type, field.type_name = kind.LABEL_OPTIONAL, kind.TYPE_MESSAGE, f".tensorflow.{name}"
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=kind.LABEL_OPTIONAL, type=kind.TYPE_STRING)
    _add_message_field(entry, "value", 2, kind.LABEL_OPTIONAL, "Feature")
    _add_message_field(features, "feature", 1, kind.LABEL_REPEATED, "Features.FeatureEntry")
    _add_message_field(file.message_type.add(name="Example"), "features", 1, kind.LABEL_OPTIONAL, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _add_message_field(message: Any, name: str, number: int, label: Any, type_name: str) -> None:
    kind = descriptor_pb2.FieldDescriptorProto
    message.field.add(
        name=name, number=number, label=label, type=kind.TYPE_MESSAGE, type_name=f".tensorflow.{type_name}"
    )
