"""Make the weights of the musicnn embedding, `gmsdi/weights/musicnn`, from the `musicnn` package.

    python -m pip download --no-deps musicnn==0.1.0 && python -m zipfile -e musicnn-0.1.0*.whl unpacked
    python -m benchmarks.convert_musicnn unpacked gmsdi/weights/musicnn

Run both in the repository's root. Variables keep their values, names and shapes; those of the optimiser are left out.
The names of the tags are stored in the file's metadata, and the package's licence (ISC) is copied beside the weights.

The package holds TensorFlow checkpoints ("tensor bundles"), which are read here with numpy alone. A bundle is two
files. The *index* is a sorted string table in LevelDB's format (blocks of key/value pairs in which a key shares a
prefix with the key before it); its values are `BundleEntryProto` messages with the position of a tensor's raw
little-endian bytes in the *data* file. Formats: LevelDB `doc/table_format.md`, Protocol Buffers "Encoding", and
TensorFlow `core/protobuf/tensor_bundle.proto`.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import shutil
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from gmsdi.errors import UserError
from gmsdi.io.files import atomic

_MAGIC = 0xDB4775248B80FB57  # the last 8 bytes of every LevelDB table
_FOOTER = 48  # two block handles, padding, magic
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # TensorFlow's DataType numbers
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # Protocol Buffers' wire types


def convert(package: Path, out: Path) -> None:
    """Write `MTT.safetensors`, `MSD.safetensors` and `LICENSE.md`.

    Args:
        package: Folder of the unpacked wheel, or the site-packages in which it is installed.
        out: Folder to write into.
    """
    labels = ast.parse((package / "musicnn" / "configuration.py").read_text(encoding="utf-8")).body
    tags = {node.targets[0].id: ast.literal_eval(node.value) for node in labels if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    for dataset in ("MTT", "MSD"):
        folder = package / "musicnn" / f"{dataset}_musicnn"
        variables = read_checkpoint(folder / ".index", folder / ".data-00000-of-00001")
        kept = {name: value for name, value in variables.items() if not name.endswith(("/Adam", "/Adam_1", "_power"))}
        with atomic(out / f"{dataset}.safetensors") as path:
            save_file(kept, path, {"tags": json.dumps(tags[f"{dataset}_LABELS"])})
    shutil.copyfile(package / "musicnn-0.1.0.dist-info" / "LICENSE.md", out / "LICENSE.md")


def read_checkpoint(index: str | Path, data: str | Path) -> dict[str, np.ndarray]:
    """Read every tensor of a single-shard, little-endian bundle.

    Args:
        index: The bundle's index file.
        data: The bundle's data file (`….data-00000-of-00001`).

    Returns:
        Variable name to array, with the saved shapes and types.

    Raises:
        UserError: if a file is missing or truncated, or uses an unsupported feature (compressed blocks, several shards,
            sliced tensors, other types).
    """
    try:
        table, content = Path(index).read_bytes(), Path(data).read_bytes()
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); install the checkpoint again") from error
    try:
        return {
            key.decode(): _tensor(_message(value), content)
            for key, value in _entries(table)
            if key  # the empty key holds the bundle's header
        }
    except (ValueError, IndexError, KeyError, struct.error) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{index}: not a readable checkpoint ({reason}); install the checkpoint again") from error


def _tensor(entry: dict[int, list[int | bytes]], content: bytes) -> np.ndarray:
    """Cut one tensor out of the data file; fields: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 7 slices."""
    if 7 in entry or entry.get(3, [0]) != [0]:
        raise ValueError("sliced or sharded tensors")
    dims = [_message(_bytes(dim)) for dim in _message(_bytes(entry.get(2, [b""])[0])).get(2, [])]
    shape = [_int(dim.get(1, [0])[0]) for dim in dims]
    dtype = np.dtype(_DTYPES[_int(entry[1][0])])
    offset, size = _int(entry.get(4, [0])[0]), _int(entry.get(5, [0])[0])
    if size != math.prod(shape) * dtype.itemsize or offset + size > len(content):
        raise ValueError("a tensor's size does not fit")
    return np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape).copy()


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield all key/value pairs of a LevelDB table, in key order."""
    if len(table) < _FOOTER or struct.unpack_from("<Q", table, len(table) - 8)[0] != _MAGIC:
        raise ValueError("no table magic")
    at = len(table) - _FOOTER
    for _ in range(2):  # the handle of the (empty) meta-index block
        _, at = _varint(table, at)
    for _, handle in _block(table, at):
        yield from _block(handle, 0, table)


def _block(source: bytes, at: int, table: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield the key/value pairs of the block whose handle (offset, size) is encoded at position `at` of `source`."""
    table = source if table is None else table
    start, at = _varint(source, at)
    size, at = _varint(source, at)
    if table[start + size] != 0:  # the byte after a block names its compression
        raise ValueError("compressed blocks")
    block = table[start : start + size]
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    end, at, key = size - 4 - 4 * restarts, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _message(buffer: bytes) -> dict[int, list[int | bytes]]:
    """Decode a Protocol Buffers message into field number -> values, without its schema."""
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(buffer):
        tag, at = _varint(buffer, at)
        value: int | bytes
        if tag & 7 == _VARINT:
            value, at = _varint(buffer, at)
        else:
            if tag & 7 == _BYTES:
                length, at = _varint(buffer, at)
            else:
                length = {_FIXED64: 8, _FIXED32: 4}[tag & 7]
            value, at = buffer[at : at + length], at + length
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    """Decode a base-128 integer, least significant group first; return it and the position after it."""
    value = shift = 0
    while True:
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a number was expected")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a message was expected")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert; the exit status is 1 for a `UserError`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convert_musicnn", description=main.__doc__)
    parser.add_argument("package", type=Path, help="folder of the unpacked wheel")
    parser.add_argument("out", type=Path, help="folder to write into")
    given = parser.parse_args(arguments)
    try:
        convert(given.package, given.out)
    except UserError as error:
        print(f"convert_musicnn: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
