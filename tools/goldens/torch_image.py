"""What PyTorch answers for the image and window ops: tests/ops/torch_image_test.cpp. Run from the repository root."""
import os
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(__file__))
from peer import Recorder

r = Recorder(seed=21)
n, u, i = r.normal, r.uniform, r.integers


def save(part):
    r.save(f"tests/ops/goldens/torch_{part}.safetensors")
    r.tensors.clear()


# ---- interpolate
for mode in ("nearest", "nearest-exact", "linear", "area"):
    r.add(f"{mode}_1d", lambda x: F.interpolate(x, size=8, mode=mode), n(1, 2, 5))
    r.add(f"{mode}_1d_smaller", lambda x: F.interpolate(x, size=3, mode=mode), n(1, 2, 7))
for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
    r.add(f"{mode}_2d", lambda x: F.interpolate(x, size=(5, 7), mode=mode), n(1, 2, 3, 4))
    r.add(f"{mode}_2d_smaller", lambda x: F.interpolate(x, size=(2, 4), mode=mode), n(1, 1, 5, 6))
    r.add(f"{mode}_2d_scale", lambda x: F.interpolate(x, scale_factor=(1.7, 0.6), mode=mode), n(1, 1, 4, 6))
for mode in ("nearest", "nearest-exact", "trilinear", "area"):
    r.add(f"{mode}_3d", lambda x: F.interpolate(x, size=(3, 4, 2), mode=mode), n(1, 1, 2, 3, 3))
for mode in ("linear", "bilinear", "trilinear", "bicubic"):
    axes = {"linear": 1, "trilinear": 3}.get(mode, 2)
    r.add(f"{mode}_corners", lambda x: F.interpolate(x, size=(5, 1, 3)[:axes], mode=mode, align_corners=True), n(1, 1, 3, 4, 4)[..., 0].reshape(1, 1, 3, 4) if axes == 2 else n(1, 1, *(3, 4, 2)[:axes]))
    r.add(f"{mode}_corners_scale", lambda x: F.interpolate(x, scale_factor=1.6, mode=mode, align_corners=True), n(1, 1, *(3, 4, 2)[:axes]))
for mode in ("bilinear", "bicubic"):
    r.add(f"{mode}_antialias", lambda x: F.interpolate(x, size=(3, 4), mode=mode, antialias=True), n(1, 1, 8, 9))
    r.add(f"{mode}_antialias_larger", lambda x: F.interpolate(x, size=(6, 3), mode=mode, antialias=True), n(1, 1, 4, 8))
    r.add(f"{mode}_antialias_scale", lambda x: F.interpolate(x, scale_factor=0.45, mode=mode, antialias=True), n(1, 1, 7, 8))
save("interpolate")

# ---- sampling at positions
for mode in ("bilinear", "nearest", "bicubic"):
    for padding in ("zeros", "border", "reflection"):
        for corners in (False, True):
            r.add(f"{mode}_{padding}_{'corners' if corners else 'edges'}",
                  lambda x, g: F.grid_sample(x, g, mode=mode, padding_mode=padding, align_corners=corners),
                  n(1, 2, 3, 4), u(-1.7, 1.7, 1, 3, 2, 2))
for padding in ("zeros", "border", "reflection"):
    r.add(f"trilinear_{padding}", lambda x, g: F.grid_sample(x, g, padding_mode=padding, align_corners=False), n(2, 1, 2, 3, 2), u(-1.5, 1.5, 2, 1, 2, 3, 3))
r.add("nearest_3d", lambda x, g: F.grid_sample(x, g, mode="nearest", align_corners=True), n(1, 2, 2, 3, 2), u(-1.2, 1.2, 1, 1, 2, 2, 3))
r.add("affine_grid", lambda t: F.affine_grid(t, (2, 3, 3, 4), align_corners=False), n(2, 2, 3))
r.add("affine_grid_corners", lambda t: F.affine_grid(t, (1, 3, 2, 1), align_corners=True), n(1, 2, 3))
r.add("affine_grid_3d", lambda t: F.affine_grid(t, (1, 1, 2, 3, 2), align_corners=False), n(1, 3, 4))
save("grid_sample")

# ---- patches, shuffles, unpooling
r.add("unfold", lambda x: F.unfold(x, (2, 3)), n(2, 2, 4, 5))
r.add("unfold_options", lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=(2, 1), stride=(2, 1)), n(1, 2, 5, 4))
r.add("unfold_one", lambda x: F.unfold(x, 2, stride=2), n(2, 4, 4))
r.add("fold", lambda x: F.fold(x, (4, 5), (2, 3)), n(2, 12, 9))
r.add("fold_options", lambda x: F.fold(x, (5, 4), (3, 2), dilation=(1, 2), padding=(2, 1), stride=(2, 1)), n(1, 12, 16))
r.add("fold_one", lambda x: F.fold(x, (4, 4), 2, stride=2), n(8, 4))
r.add("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), n(2, 8, 2, 3))
r.add("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 3), n(1, 2, 3, 6))
r.add("channel_shuffle", lambda x: F.channel_shuffle(x, 3), n(2, 6, 2, 2), grad=False)
r.add("max_unpool1d", lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2), n(1, 2, 6))
r.add("max_unpool2d", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, 2, return_indices=True), 2, 2, output_size=(5, 6)), n(2, 1, 5, 6))
r.add("max_unpool2d_padding", lambda x: F.max_unpool2d(*F.max_pool2d(x, 3, 3, 1, return_indices=True), 3, 3, 1), n(1, 2, 7, 4))
r.add("max_unpool3d", lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2), n(1, 1, 2, 4, 2))
r.add("sliding_window", lambda x: x.unfold(1, 3, 2), n(2, 8, 2))
save("patches")

# ---- embedding bags
flat, offsets, ends = i(0, 6, 9), torch.tensor([0, 2, 2, 7]), torch.tensor([0, 4, 4, 9])
for mode in ("sum", "mean", "max"):
    r.add(f"bag_{mode}", lambda k, t: F.embedding_bag(k, t, mode=mode), i(0, 6, 3, 4), n(6, 3))
    r.add(f"bag_{mode}_offsets", lambda k, t, o: F.embedding_bag(k, t, o, mode=mode), flat, n(6, 3), offsets)
    r.add(f"bag_{mode}_padding", lambda k, t, o: F.embedding_bag(k, t, o, mode=mode, padding_idx=int(flat[3]), include_last_offset=True), flat, n(6, 3), ends)
r.add("bag_weights", lambda k, t, o, w: F.embedding_bag(k, t, o, mode="sum", per_sample_weights=w), flat, n(6, 3), offsets, n(9))
r.add("bag_weights_padding", lambda k, t, w: F.embedding_bag(k, t, mode="sum", per_sample_weights=w, padding_idx=2), torch.tensor([[2, 1, 2], [0, 2, 5]]), n(6, 3), n(2, 3))
r.add("embedding_padding", lambda t, k: F.embedding(k, t, padding_idx=-2), n(5, 3), torch.tensor([3, 0, 3, 4]))
save("embedding_bag")
