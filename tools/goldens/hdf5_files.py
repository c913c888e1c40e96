#!/usr/bin/env python3
"""Writes tests/formats/goldens/hdf5/: HDF5 files of every form that the reader knows, as h5py writes them, and what
h5py reads from them (NAME.json: dtype, shape and values of each data set of numbers, the texts in attributes).

  pip install h5py && python3 tools/goldens/hdf5_files.py [FOLDER]
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np

NAMES = {"bool": "bool", "float16": "f16", "float32": "f32", "float64": "f64",
         **{f"{u}int{b}": f"{'u' if u else 'i'}{b}" for u in ("", "u") for b in (8, 16, 32, 64)}}


def numbers(*shape, dtype="f4"):
    return (np.arange(np.prod(shape, dtype=int)) * 7 % 101 - 20 * (np.dtype(dtype).kind != "u")).astype(dtype).reshape(shape)


def plain(f):
    g = f.create_group("types")
    for t in "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 >f2 >f4 >f8 >i2 >u4 >i8".split():
        g[t.replace(">", "big_")] = numbers(2, 3, dtype=t)
    g["bool"] = np.array([True, False, True])
    g["scalar"] = np.float32(2.5)
    g["empty"] = np.zeros((0, 4), "f4")
    g["text"] = "no numbers"
    g["compound"] = np.zeros(2, [("a", "f4"), ("b", "i4")])
    f.create_dataset("null", data=h5py.Empty("f4"))
    f.create_dataset("never_written", (3, 4), "f4", fillvalue=1.5)
    f["named_type"] = np.dtype("f4")
    f.create_dataset("of_named_type", data=numbers(3), dtype=f["named_type"])


def chunked(f, newest):
    g = f.create_group("chunks")
    g.create_dataset("plain", data=numbers(7, 5), chunks=(3, 2))
    g.create_dataset("gzip", data=numbers(9, 10, 4), chunks=(4, 3, 4), compression="gzip")
    g.create_dataset("shuffled", data=numbers(50, dtype="i8"), chunks=(16,), compression="gzip", shuffle=True)
    g.create_dataset("checked", data=numbers(5, 7, dtype="f8"), chunks=(2, 7), compression="gzip", fletcher32=True, shuffle=True)
    g.create_dataset("odd_checked", data=numbers(13, dtype="u1"), chunks=(13,), fletcher32=True)
    g.create_dataset("one", data=numbers(4, 4), chunks=(4, 4), compression="gzip")
    g.create_dataset("larger", data=numbers(3, 3), chunks=(8, 8), maxshape=(8, 8))
    half = g.create_dataset("half", (6, 6), "i4", chunks=(2, 2), fillvalue=-3)
    half[2:4, 1:5] = 7
    g.create_dataset("big_endian", data=numbers(4, 6, dtype=">f4"), chunks=(2, 6), compression="gzip", shuffle=True)
    grows = g.create_dataset("grows", data=numbers(5, 6), chunks=(2, 2), maxshape=(None, None))
    grows.resize((7, 5))
    many = g.create_dataset("many", data=numbers(22, 20, dtype="i2"), chunks=(2, 2), maxshape=(None, None))
    many.attrs["unit"] = "chunks"
    g.create_dataset("many_fixed_gzip", data=numbers(10, 12, dtype="i2"), chunks=(1, 2), compression="gzip")
    if newest:  # an index of more than one page
        g.create_dataset("many_fixed", data=numbers(1100, dtype="i1"), chunks=(1,))


def growing(f):
    g = f.create_group("growing")
    g.create_dataset("few", data=numbers(9), chunks=(2,), maxshape=(None,))
    g.create_dataset("many", data=numbers(600, dtype="i1"), chunks=(1,), maxshape=(None,))  # super blocks too
    g.create_dataset("rows", data=numbers(40, 6), chunks=(3, 4), maxshape=(None, 6), compression="gzip", shuffle=True)
    g.create_dataset("columns", data=numbers(6, 70, dtype="i2"), chunks=(2, 3), maxshape=(10, None))
    g.create_dataset("middle", data=numbers(4, 9, 5, dtype="u1"), chunks=(2, 2, 3), maxshape=(6, None, 5), compression="gzip")
    g.create_dataset("within", data=numbers(5, 6), chunks=(2, 2), maxshape=(9, 13))  # a fixed array for more
    g.create_dataset("within_gzip", data=numbers(5, 6), chunks=(2, 2), maxshape=(9, 13), compression="gzip")
    shrunk = g.create_dataset("shrunk", data=numbers(50), chunks=(4,), maxshape=(None,))
    shrunk.resize((21,))
    half = g.create_dataset("half", (300,), "i4", chunks=(2,), maxshape=(None,), fillvalue=5)
    half[100:103] = half[250:260] = 7
    g.create_dataset("never", (30,), "i4", chunks=(2,), maxshape=(None,), fillvalue=5)


def sparse(path):
    """So many chunks that blocks of the index are cut into pages, of which few were written."""
    with h5py.File(path, "w", libver=("v110", "v110")) as f:
        x = f.create_dataset("x", (400000,), "i1", chunks=(1,), maxshape=(None,), fillvalue=-1)
        for i, at in enumerate((0, 3, 4, 131059, 131060, 131060 + 1024, 131060 + 2047, 140000, 262131, 262132, 399999)):
            x[at] = i


def low_level(f, early):
    space = h5py.h5s.create_simple((2, 5))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    compact = h5py.h5d.create(f.id, b"compact", h5py.h5t.NATIVE_FLOAT, space, properties)
    compact.write(h5py.h5s.ALL, h5py.h5s.ALL, numbers(2, 5))
    if early:  # all chunks in a row, without an index
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((2, 2))
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        implicit = h5py.h5d.create(f.id, b"implicit", h5py.h5t.NATIVE_FLOAT, space, properties)
        implicit.write(h5py.h5s.ALL, h5py.h5s.ALL, numbers(2, 5))


def linked(f):
    g = f.create_group("links")
    g["first"] = numbers(2)
    g["second"] = g["first"]  # the same object
    g["soft"] = h5py.SoftLink("/links/first")
    g["outside"] = h5py.ExternalLink("other.h5", "/x")
    g["up"] = f["/"]  # a circle
    deep = f.create_group("a/b/c/d/e")
    deep["x"] = numbers(1)
    for order in (False, True):
        many = f.create_group(f"many_{'ordered' if order else 'named'}", track_order=order)
        for i in range(60):
            many[f"weight_of_layer_number_{i}"] = np.float32(i)


def attributes(f):
    a = f.attrs
    a["text"] = "one text, ü"
    a["fixed"] = np.bytes_(b"fixed text")
    a["list"] = ["a", "", "ccc"]
    a["fixed_list"] = np.array([b"kernel:0", b"bias:0"])
    a["number"] = 5
    a["numbers"] = numbers(3)
    a["nothing"] = h5py.Empty("S1")
    f.create_group("attributes").attrs["long"] = "x" * 3000
    many = f.create_group("many_attributes")
    for i in range(30):
        many.attrs[f"name_{i}"] = f"value {i}"


def expected(path):
    tensors, texts, seen = {}, {}, set()

    def visit(name, thing):
        for key, value in thing.attrs.items():
            if isinstance(value, h5py.Empty):
                if value.dtype.kind == "S":
                    texts[f"{name}@{key}"] = []
                continue
            flat = np.atleast_1d(np.asarray(value, dtype=object) if isinstance(value, str) else value)
            if flat.dtype.kind in "SO":
                texts[f"{name}@{key}"] = [v.decode() if isinstance(v, bytes) else v for v in flat.ravel()]
        if isinstance(thing, h5py.Dataset) and thing.dtype.kind in "fiub" and thing.shape is not None:
            a = thing[()]
            tensors[name] = {"dtype": NAMES[np.asarray(a).dtype.newbyteorder("=").name], "shape": list(np.shape(a)),
                             "values": np.asarray(a).ravel().tolist()}

    with h5py.File(path) as f:
        visit("", f)
        f.visititems(lambda name, thing: visit(name, thing) if not isinstance(thing, h5py.Datatype) else None)
    return {"tensors": tensors, "attributes": texts}


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "tests/formats/goldens/hdf5")
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"plain": plain, "chunked": chunked, "growing": growing, "links": linked, "attributes": attributes}
    for version, newest in (("earliest", False), ("latest", True)):
        for name, make in parts.items():
            with h5py.File(folder / f"{name}_{version}.h5", "w", libver=version if version == "earliest" else ("v110", "v110")) as f:
                make(f, newest) if name == "chunked" else make(f)
                if name == "plain":
                    low_level(f, newest)
    with h5py.File(folder / "user_block.h5", "w", userblock_size=1024) as f:
        f["x"] = numbers(3)
        f.attrs["list"] = ["a", "b"]
    for path in sorted(folder.glob("*.h5")):
        (path.with_suffix(".json")).write_text(json.dumps(expected(path)) + "\n")
    (folder / "large").mkdir(exist_ok=True)
    sparse(folder / "large/pages.h5")
    # Right, but not read: each must be refused with its reason.
    refused = folder / "refused"
    refused.mkdir(exist_ok=True)
    with h5py.File(refused / "lzf.h5", "w") as f:
        f.create_dataset("x", data=numbers(9), compression="lzf")
    with h5py.File(refused / "virtual.h5", "w", libver=("v110", "v110")) as f:
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "y", (3,))
        f.create_virtual_dataset("x", layout)
    with h5py.File(refused / "elsewhere.h5", "w") as f:
        f.create_dataset("x", (3,), "f4", external=[("other.bin", 0, h5py.h5f.UNLIMITED)])


main()
