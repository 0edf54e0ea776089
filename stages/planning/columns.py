"""Frozen dataclasses of text, numbers and arrays as rows of a table, and back: by their fields, whatever those are.

A dataclass in a field becomes a struct, an array its dtype, shape and bytes (bools eight to a byte), so that equal
records make equal tables and every bit of a number comes back. Arrays come back read-only: nothing writes into a truth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

T = TypeVar("T")

ARRAY = pa.struct({"dtype": pa.string(), "shape": pa.list_(pa.int32()), "data": pa.binary()})
SCALARS = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def schema_of(kind: type[Any]) -> pa.Schema:
    """The columns of a table of records of the dataclass `kind`: a table with others was made of other fields.

    Raises TypeError when a field has no kind of column.
    """
    return pa.schema(list(_arrow(kind)))


def table_of(records: Sequence[T], kind: type[T]) -> pa.Table:
    """A row for each record of the dataclass `kind`."""
    return pa.Table.from_pylist([_plain(record) for record in records], schema=schema_of(kind))


def records_of(table: pa.Table, kind: type[T]) -> Iterator[T]:
    """The records that `table_of` was given, one at a time."""
    for row in table.to_batches(max_chunksize=1):
        yield _value(kind, row.to_pylist()[0])


def _arrow(kind: Any) -> Any:
    """The Arrow type of an annotation."""
    kind = _present(kind)
    if kind in SCALARS:
        return SCALARS[kind]
    if is_dataclass(kind):
        return pa.struct([(field.name, _arrow(field.type)) for field in fields(kind)])
    if get_origin(kind) is tuple:
        return pa.list_(_arrow(get_args(kind)[0]))
    if get_origin(kind) is np.ndarray or getattr(kind, "array_type", None) is np.ndarray:  # NDArray, or jaxtyping's
        return ARRAY
    raise TypeError(f"no kind of column holds {kind}")


def _present(kind: Any) -> Any:
    """An annotation without its `| None`."""
    if get_origin(kind) is not UnionType:
        return kind
    (inner,) = (part for part in get_args(kind) if part is not NoneType)
    return inner


def _plain(value: Any) -> Any:
    """A value as `from_pylist` takes it."""
    if isinstance(value, np.ndarray):
        data = np.packbits(value) if value.dtype == bool else np.ascontiguousarray(value)
        return {"dtype": value.dtype.str, "shape": value.shape, "data": data.tobytes()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _value(kind: Any, plain: Any) -> Any:
    """The value of an annotation that `_plain` was made of."""
    kind = _present(kind)
    if plain is None or kind in SCALARS:
        return plain
    if is_dataclass(kind):
        values = {field.name: _value(field.type, plain[field.name]) for field in fields(kind)}
        return cast(Any, kind)(**values)
    if get_origin(kind) is tuple:
        return tuple(_value(get_args(kind)[0], part) for part in plain)
    return _array(np.dtype(plain["dtype"]), plain["shape"], plain["data"])


def _array(dtype: np.dtype[Any], shape: Sequence[int], data: bytes) -> NDArray[Any]:
    if dtype.kind != "b":
        return np.frombuffer(data, dtype).reshape(shape)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=int(np.prod(shape))).view(bool).reshape(shape)
    bits.flags.writeable = False
    return bits
