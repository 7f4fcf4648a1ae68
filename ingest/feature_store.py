"""A catalogue's columns -> the arrays that features are scored from, in files that every task of a build maps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simshard.ingest.catalogue import Catalogue, split_texts
from simshard.ingest.catalogue_files import UNKNOWN
from simshard.ingest.features import FeatureSpec, columns, holds
from simshard.ingest.similarity import (
    CategoryFeature,
    Feature,
    NumberFeature,
    SetFeature,
    VectorFeature,
)
from simshard.shards.errors import InputError

FREQUENT = 512  # terms of a set that stand in a matrix; the others are looked up tile by tile
_BLOCK = 4096
Present = NDArray[np.bool_]


@dataclass(frozen=True)
class StoredFeature:
    """A feature's arrays as .npy files, to be mapped by `open`."""

    spec: FeatureSpec
    folder: Path

    def create(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A new array of zeros in its file."""
        self.folder.mkdir(exist_ok=True)
        array = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", dtype, shape)
        with open(self.folder / f"{name}.npy", "r+b") as file:
            reserve(file, os.fstat(file.fileno()).st_size)
        return array

    def save(self, name: str, values: NDArray[Any]) -> None:
        """Write an array to its file."""
        self.folder.mkdir(exist_ok=True)
        np.save(self.folder / f"{name}.npy", values, allow_pickle=False)

    def open(self) -> Feature:
        """The feature, its arrays mapped: their pages are shared by all tasks of a node."""
        arrays = {
            path.stem: np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
            for path in self.folder.glob("*.npy")
        }
        if self.spec.kind == "set":
            return SetFeature(**arrays, jaccard=self.spec.measure == "jaccard", idf=self.spec.idf)
        if self.spec.kind == "number":
            return NumberFeature(**arrays)
        if self.spec.kind == "category":
            return CategoryFeature(**arrays)
        return VectorFeature(**arrays)


def reserve(file: IO[bytes], size: int) -> None:
    """Give a file that will be mapped its blocks, so that a full disk is an OSError now and no signal later."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


def store_feature(path: str, catalogue: Catalogue, spec: FeatureSpec, folder: Path) -> tuple[StoredFeature, Present]:
    """Write a feature of the catalogue in `path`; which items have it, bool (N,). Raises InputError."""
    stored = StoredFeature(spec, folder)
    name = catalogue.renamed.get(spec.column, spec.column)
    place = f"{path}: feature {str(spec)!r}"
    if spec.column in catalogue.left_out:
        raise _wrong(place, stored, catalogue.left_out[spec.column], "text, numbers or lists of texts")
    if spec.kind == "vector":
        present = _store_vectors(path, place, catalogue, stored)
    else:
        column = catalogue.attributes.get(name)
        if column is None:
            raise _absent(place, catalogue, stored)
        store = {"set": _store_sets, "number": _store_numbers, "category": _store_categories}[spec.kind]
        present = store(place, catalogue.ids, column, stored)
    if not present.any():
        raise InputError(f"{place}: missing in every item; leave it out")
    return stored, present


def _absent(place: str, catalogue: Catalogue, stored: StoredFeature) -> InputError:
    name = stored.spec.column
    if name in catalogue.vectors:
        return _wrong(place, stored, "lists of decimal numbers", "other values; vector would fit")
    return InputError(f"{place}: no column {name!r} with values; there are {columns(catalogue)}")


def _wrong(place: str, stored: StoredFeature, found: str, fitting: str) -> InputError:
    return InputError(f"{place}: column {stored.spec.column!r} holds {found}; {stored.spec.kind} needs {fitting}")


def _item(ids: pa.Array, row: int) -> str:
    return f"item {row + 1} (id {ids[row].as_py()!r})"


def as_lists(column: pa.Array) -> pa.Array:
    """A column of lists as it is, one of text parted at its commas."""
    return split_texts(column, ",") if pa.types.is_string(column.type) else column


def _store_sets(place: str, _: pa.Array, column: pa.Array, stored: StoredFeature) -> Present:
    lists = as_lists(column)
    if not pa.types.is_list(lists.type):
        raise _wrong(place, stored, holds(column.type), "lists of texts, or text with commas (or --split)")
    count = len(lists)
    terms = pc.utf8_trim_whitespace(lists.flatten())
    known = pc.invert(pc.is_in(terms, value_set=pa.array([*UNKNOWN, None])))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    items = np.repeat(np.arange(count), lengths)[known.to_numpy(zero_copy_only=False)]
    encoded = terms.filter(known).dictionary_encode()
    size = max(len(encoded.dictionary), 1)
    items, codes = np.divmod(np.unique(items * np.int64(size) + encoded.indices.to_numpy()), size)
    having = np.bincount(codes, minlength=size)
    present = np.bincount(items, minlength=count) > 0
    adds = np.ones(size)
    if stored.spec.idf:
        adds = np.log((1 + present.sum()) / (1 + having)) + 1
        if stored.spec.measure == "cosine":
            adds = adds**2
    sizes = np.bincount(items, weights=adds[codes], minlength=count)
    stored.save("sizes", np.where(present, sizes, 1.0).astype(np.float32))

    rank = np.empty(size, dtype=np.int64)
    rank[np.argsort(-having, kind="stable")] = np.arange(size)
    roots = np.sqrt(adds).astype(np.float32)
    often = rank[codes] < FREQUENT
    frequent = stored.create("frequent", (count, min(size, FREQUENT)), np.float32)
    frequent[items[often], rank[codes[often]]] = roots[codes[often]]
    rare = ~often & (having[codes] > 1)  # a term of one item is shared with none
    stored.save("codes", codes[rare].astype(np.uint32))
    stored.save("offsets", np.searchsorted(items[rare], np.arange(count + 1)))
    stored.save("values", roots)
    return present


def _store_numbers(place: str, ids: pa.Array, column: pa.Array, stored: StoredFeature) -> Present:
    if pa.types.is_string(column.type):
        column = _parsed(place, ids, column, stored)
    elif pa.types.is_list(column.type):
        raise _wrong(place, stored, holds(column.type), "numbers")
    present: Present = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.drop_null().to_numpy()
    scaled = np.full(len(column), np.nan, dtype=np.float32)
    if len(values):
        if values.dtype == np.int64:  # differences of integers are exact as unsigned ones
            distances = (values.view(np.uint64) - values.min().view(np.uint64)).astype(np.float64)
        else:  # halves, because the range of all float64 is not a float64
            distances = values / 2 - values.min() / 2
        scaled[present] = distances / max(distances.max(), np.finfo(np.float64).tiny)
    stored.save("scaled", scaled)
    return present


def _parsed(place: str, ids: pa.Array, column: pa.Array, stored: StoredFeature) -> pa.Array:
    try:
        numbers = pc.utf8_trim_whitespace(column).cast(pa.float64())
        return pc.if_else(pc.is_finite(numbers), numbers, None)
    except pa.ArrowInvalid:
        for row, text in enumerate(column.to_pylist()):
            try:
                float(text or 0)
            except ValueError:
                raise _wrong(place, stored, f"text, {text!r} in {_item(ids, row)}", "numbers") from None
        raise _wrong(place, stored, "text", "numbers") from None


def _store_categories(place: str, _: pa.Array, column: pa.Array, stored: StoredFeature) -> Present:
    if pa.types.is_list(column.type):
        raise _wrong(place, stored, holds(column.type), "one text or number for each item; set would fit")
    codes = column.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    stored.save("codes", codes)
    present: Present = codes >= 0
    return present


def _store_vectors(path: str, place: str, catalogue: Catalogue, stored: StoredFeature) -> Present:
    name, ids = stored.spec.column, catalogue.ids
    if name in catalogue.vectors:
        blocks, size = _list_blocks(place, ids, catalogue.vectors[name])
    elif name in catalogue.attributes:
        raise _wrong(place, stored, holds(catalogue.attributes[name].type), "lists of numbers, all of one length")
    else:
        beside = Path(path).parent / (name if name.endswith(".npy") else f"{name}.npy")
        if Path(name).name != name or not beside.is_file():
            raise InputError(
                f"{place}: no column {name!r}, and no file {beside.name!r} beside the catalogue; "
                f"there are {columns(catalogue)}"
            )
        blocks, size = _array_blocks(beside, len(ids))
    unit = stored.create("unit", (len(ids), size), np.float32)
    present = np.zeros(len(ids), dtype=np.bool_)
    for rows, values in blocks:
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(wrong):
            raise InputError(f"{place}: the vector of {_item(ids, int(rows[wrong[0]]))} has a value that is no number")
        small = values / np.maximum(np.abs(values).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        lengths = np.linalg.norm(small, axis=1, keepdims=True)
        unit[rows] = small / np.where(lengths > 0, lengths, 1.0)
        present[rows] = lengths[:, 0] > 0
    return present


Blocks = Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]


def _list_blocks(place: str, ids: pa.Array, column: pa.ChunkedArray) -> tuple[Blocks, int]:
    """Rows and vectors of a column of lists, and their length; null and empty lists are absent."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    there = np.flatnonzero(lengths)
    if not len(there):
        raise InputError(f"{place}: missing in every item; leave it out")
    size = int(lengths[there[0]])
    other = np.flatnonzero(lengths[there] != size)
    if len(other):
        row = int(there[other[0]])
        raise InputError(
            f"{place}: the vector of {_item(ids, row)} has {lengths[row]} values, "
            f"that of {_item(ids, int(there[0]))} has {size}; all need the same"
        )

    def blocks() -> Blocks:
        for at in range(0, len(column), _BLOCK):
            part = column.slice(at, _BLOCK)
            rows = at + np.flatnonzero(lengths[at : at + _BLOCK])
            flat = [chunk.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False) for chunk in part.chunks]
            if len(rows):
                yield rows, np.concatenate(flat).reshape(-1, size)

    return blocks(), size


def _array_blocks(path: Path, items: int) -> tuple[Blocks, int]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a .npy file of numbers ({error})") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        raise InputError(f"{path}: {array.dtype} of shape {array.shape}; a matrix of numbers is needed, a row an item")
    if len(array) != items:
        raise InputError(f"{path}: {len(array):,} rows, but the catalogue has {items:,} items; a row an item is needed")
    starts = range(0, items, _BLOCK)
    return (
        (np.arange(at, min(at + _BLOCK, items)), np.array(array[at : at + _BLOCK], dtype=np.float64)) for at in starts
    ), array.shape[1]
