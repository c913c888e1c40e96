#!/usr/bin/env python3
"""What PyTorch's automatic mixed precision does: result dtypes for each op, a small training run, a GradScaler's steps.

  python tools/goldens/torch_autocast.py tests/trace/goldens/torch_autocast.json

CPU autocast is run; what only CUDA's autocast covers (exp, softmax, norms, ...) comes from the lists that PyTorch tests
that autocast with (torch.testing._internal.autocast_test_lists), which need no CUDA to be read. Needs the package
expecttest, which that module imports.
"""
import json
import sys

import torch
import torch.nn.functional as F
from torch import nn


def cpu_dtypes():
    """name -> result dtype under CPU autocast to bf16, from f32 inputs and from bf16 inputs."""
    rows = {}

    def case(name, fn, *shapes, positive=False):
        result = []
        for dtype in (torch.float32, torch.bfloat16):
            xs = [torch.rand(s) + 0.1 if positive else torch.randn(s) for s in shapes]
            with torch.autocast("cpu", torch.bfloat16):
                y = fn(*[x.to(dtype) for x in xs])
            result.append({torch.float32: "f32", torch.bfloat16: "bf16"}[y.dtype])
        rows[name] = result

    case("matmul", torch.matmul, (2, 3), (3, 4))
    case("batched matmul", torch.bmm, (2, 2, 3), (2, 3, 4))
    case("linear", F.linear, (2, 3), (4, 3), (4,))
    case("conv1d", F.conv1d, (1, 2, 5), (3, 2, 2))
    case("conv2d", F.conv2d, (1, 2, 5, 5), (3, 2, 2, 2), (3,))
    case("conv3d", F.conv3d, (1, 2, 3, 3, 3), (3, 2, 2, 2, 2))
    case("conv_transpose2d", F.conv_transpose2d, (1, 2, 5, 5), (2, 3, 2, 2))
    case("attention", F.scaled_dot_product_attention, (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4))
    case("prelu", F.prelu, (2, 3), (1,))
    case("relu", F.relu, (2, 3))
    case("tanh", torch.tanh, (2, 3))
    case("add", torch.add, (2, 3), (2, 3))
    case("max", torch.amax, (2, 3))
    case("mse_loss", F.mse_loss, (2, 3), (2, 3))
    case("l1_loss", F.l1_loss, (2, 3), (2, 3))
    case("huber_loss", F.huber_loss, (2, 3), (2, 3))
    case("smooth_l1_loss", F.smooth_l1_loss, (2, 3), (2, 3))
    case("bce_with_logits", F.binary_cross_entropy_with_logits, (2, 3), (2, 3))
    case("nll_loss", lambda x: F.nll_loss(x, torch.tensor([0, 2])), (2, 3))
    case("poisson_nll_loss", F.poisson_nll_loss, (2, 3), (2, 3))
    case("kl_div", lambda a, b: F.kl_div(a, b, reduction="sum"), (2, 3), (2, 3), positive=True)
    case("triplet_margin_loss", F.triplet_margin_loss, (2, 3), (2, 3), (2, 3))
    case("soft_margin_loss", F.soft_margin_loss, (2, 3), (2, 3))
    case("prod", torch.prod, (2, 3))
    with torch.autocast("cpu", torch.bfloat16):
        rows["mixed add"] = str((torch.ones(2) + torch.ones(2, dtype=torch.bfloat16)).dtype)
        rows["mixed concat"] = str(torch.cat([torch.ones(2), torch.ones(2, dtype=torch.bfloat16)]).dtype)
        rows["double matmul"] = str((torch.ones(2, 2).double() @ torch.ones(2, 2).double()).dtype)
    return rows


def cuda_lists():
    from torch.testing._internal.autocast_test_lists import AutocastTestLists

    lists = AutocastTestLists(torch.device("cpu"))
    names = lambda rows: sorted({row[0].strip("_") for row in rows})
    return {
        "lower": names(lists.torch_fp16 + lists.nn_fp16),
        "full": names(lists.torch_fp32 + lists.nn_fp32),
    }


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc1 = nn.Linear(4 * 6 * 6, 16)
        self.norm = nn.LayerNorm(16)
        self.fc2 = nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.conv(x)).flatten(1)
        return self.fc2(torch.tanh(self.norm(self.fc1(x))))


def training(precision, steps=20):
    """Losses of SGD with momentum on one batch; weights and data from formulas that both sides write down."""
    net = Net()
    wave = lambda shape, k: (torch.sin(torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float64) * k)
                             .reshape(shape).float())
    with torch.no_grad():
        for i, (name, p) in enumerate(net.named_parameters()):
            if name.endswith("bias"):
                p.zero_()
            if p.ndim > 1:
                p.copy_(wave(p.shape, 0.7 + 0.1 * i) / p[0].numel() ** 0.5)
    x, y = wave((8, 1, 6, 6), 0.37), torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def scaler_steps():
    """Gradients that are infinite now and then: which steps are taken, how the scale moves, the weight after each."""
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.SGD([w], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    rows = []
    for factor in [1.0, 2.0, 1e36, 1.0, 0.5, 3.0, 1.0, 1e36, 1e36, 1.0, 1.0, 1.0]:
        optimizer.zero_grad()
        loss = (w * w).sum() * factor
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        rows.append({"factor": factor, "scale": scaler.get_scale(), "w": w.tolist()})
    return rows


if __name__ == "__main__":
    torch.manual_seed(0)
    result = {"torch": torch.__version__, "cpu": cpu_dtypes(), "cuda": cuda_lists(),
              "losses": {"bf16": training("bf16"), "f32": training("f32")}, "scaler": scaler_steps()}
    with open(sys.argv[1], "w") as out:
        json.dump(result, out, indent=1)
        out.write("\n")
