#!/usr/bin/env python3
"""Writes tests/data/goldens/: small files made by NumPy and Pillow, which the tests of tenon/data read.

Run by hand when a case is added (needs numpy and pillow); the results are committed. The arrays' values are
simple enough for the tests to state them: arange in C order, reshaped.
"""
import io
import pathlib
import sys
import zipfile

import numpy as np
from PIL import Image

out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/goldens")
out.mkdir(parents=True, exist_ok=True)

# NPY: every element type, both byte orders, both memory orders, versions 1 to 3, special shapes. One text file
# of lines "file rank extents..." would be a second list: the names say it all.
types = ["b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
members = {}
for code in types:
    for order in "<>":
        if code[1] == "1" and order == ">":
            continue
        base = np.arange(24).reshape(2, 3, 4)
        array = (base % 2 == 1) if code == "b1" else (base - (8 if code[0] in "if" else 0)).astype(order + code)
        endian = "le" if order == "<" else "be"
        for memory in "CF":
            members[f"{code}_{endian}_{memory}"] = np.asarray(array, order=memory)
with zipfile.ZipFile(out / "npy_variants.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for name, array in members.items():
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version=(1, 0))
        archive.writestr(zipfile.ZipInfo(name + ".npy"), file.getvalue(), zipfile.ZIP_DEFLATED)


def save(name, array, version=None):
    with open(out / name, "wb") as file:
        np.lib.format.write_array(file, array, version=version, allow_pickle=True)


save("v1.npy", np.arange(6, dtype="<i4").reshape(2, 3), (1, 0))
save("v2.npy", np.arange(6, dtype="<i4").reshape(2, 3), (2, 0))
save("v3.npy", np.arange(6, dtype="<i4").reshape(2, 3), (3, 0))
save("scalar.npy", np.array(2.5, dtype="<f4"))
save("vector.npy", np.arange(3, dtype="<f8"))
save("empty.npy", np.zeros((0, 3), dtype="<f4"))
save("object.npy", np.array([1, "two", None], dtype=object))
save("structured.npy", np.zeros(2, dtype=[("x", "<f4"), ("y", "<i4")]))
save("complex.npy", np.zeros(2, dtype="<c8"))
save("text.npy", np.array(["a", "bc"]))
save("date.npy", np.array(["2020-01-01"], dtype="datetime64[D]"))
np.savez(out / "stored.npz", weight=np.arange(6, dtype="<f4").reshape(2, 3), bias=np.array([1, -1], dtype="<f2"))
np.savez_compressed(out / "deflated.npz", weight=np.arange(6, dtype="<f4").reshape(2, 3), mask=np.array([True, False]))

# Images: a gradient with an edge, 13 wide and 9 high; expected pixels beside them as NPY.
y, x = np.mgrid[0:9, 0:13]
red = (x * 19 % 256).astype(np.uint8)
green = (y * 28 % 256).astype(np.uint8)
blue = np.where(x > 6, 200, 30).astype(np.uint8)
rgb = np.stack([red, green, blue], -1)
alpha = ((x + y) * 11).astype(np.uint8)


def png(name, image, expected, **options):
    image.save(out / name, **options)
    np.save(out / (name + ".npy"), expected)


png("rgb.png", Image.fromarray(rgb), rgb)
png("rgba.png", Image.fromarray(np.dstack([rgb, alpha])), np.dstack([rgb, alpha]))
png("grey.png", Image.fromarray(red), red[..., None])
png("grey_alpha.png", Image.fromarray(np.dstack([red, alpha]), "LA"), np.dstack([red, alpha]))
bits = Image.fromarray(((x + y) % 2 * 255).astype(np.uint8)).convert("1")
png("grey1.png", bits, (np.asarray(bits) * 255).astype(np.uint8)[..., None])
palette = Image.fromarray(rgb).quantize(16)
png("palette.png", palette, np.asarray(palette.convert("RGB")))
wide = (x * 5000 + y * 100).astype(np.uint16)
png("grey16.png", Image.fromarray(wide), np.floor(wide / 257 + 0.5).astype(np.uint8)[..., None])
np.save(out / "rgb_to_grey.npy", np.asarray(Image.fromarray(rgb).convert("L"))[..., None])


def jpeg(name, image, **options):
    image.save(out / name, **options)
    decoded = np.asarray(Image.open(out / name))
    np.save(out / (name + ".npy"), decoded if decoded.ndim == 3 else decoded[..., None])


jpeg("rgb.jpg", Image.fromarray(rgb), quality=90)
jpeg("rgb444.jpg", Image.fromarray(rgb), quality=90, subsampling=0)
jpeg("progressive.jpg", Image.fromarray(rgb), quality=90, progressive=True)
jpeg("grey.jpg", Image.fromarray(red), quality=90)
jpeg("cmyk.jpg", Image.fromarray(rgb).convert("CMYK"), quality=90)
