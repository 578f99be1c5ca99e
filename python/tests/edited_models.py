"""Models that are edited without a library: the fields of protobuf are few."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator, List, Tuple

_GRAPH, _OPSET_IMPORT = 7, 8
_NODE, _INITIALIZER = 1, 5
_OP_TYPE, _DOMAIN = 4, 7
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def put_weights_outside(model: Path, output: Path, data_name: str) -> None:
    """Writes the model again with the elements of its weights in ``data_name`` beside it."""
    data = bytearray()

    def tensor(message: bytes) -> bytes:
        found = b""
        for number, kind, value in _fields(message):
            if number == _RAW_DATA:
                for key, text in (("location", data_name), ("offset", str(len(data))), ("length", str(len(value)))):
                    entry = _field(1, _BYTES, key.encode()) + _field(2, _BYTES, text.encode())
                    found += _field(_EXTERNAL_DATA, _BYTES, entry)
                found += _field(_DATA_LOCATION, _VARINT, b"\x01")
                data.extend(value)
            else:
                found += _field(number, kind, value)
        return found

    output.write_bytes(_edited(model.read_bytes(), [_GRAPH, _INITIALIZER], tensor))
    (output.parent / data_name).write_bytes(bytes(data))
    assert data, "the model has weights"


def replace_operator(model: Path, output: Path, op_type: str, other: str, domain: str = "") -> None:
    """Writes the model again with another operator in the place of every ``op_type``, of a domain that the model imports."""
    n_replaced = 0

    def node(message: bytes) -> bytes:
        nonlocal n_replaced
        fields = list(_fields(message))
        if (_OP_TYPE, _BYTES, op_type.encode()) not in fields:
            return message
        n_replaced += 1
        fields = [(number, kind, other.encode() if number == _OP_TYPE else value) for number, kind, value in fields]
        return b"".join(_field(*field) for field in [*fields, (_DOMAIN, _BYTES, domain.encode())])

    edited = _edited(model.read_bytes(), [_GRAPH, _NODE], node)
    imported = _field(1, _BYTES, domain.encode()) + _field(2, _VARINT, b"\x01")
    output.write_bytes(edited + (_field(_OPSET_IMPORT, _BYTES, imported) if domain else b""))
    assert n_replaced, f"the model has a {op_type}"


def _edited(message: bytes, path: List[int], edit: Callable[[bytes], bytes]) -> bytes:
    """A message with every message at a path of fields edited."""
    if not path:
        return edit(message)
    inner = lambda number, value: _edited(value, path[1:], edit) if number == path[0] else value
    return b"".join(_field(number, kind, inner(number, value)) for number, kind, value in _fields(message))


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _as_varint(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def _fields(message: bytes) -> Iterator[Tuple[int, int, bytes]]:
    """Number, wire type and bytes of each field; a varint keeps its own bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        start = at
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            size, start = _varint(message, at)
            at = start + size
        else:
            at += {_FIXED64: 8, _FIXED32: 4}[kind]
        yield number, kind, message[start:at]


def _field(number: int, kind: int, value: bytes) -> bytes:
    size = _as_varint(len(value)) if kind == _BYTES else b""
    return _as_varint(number << 3 | kind) + size + value
