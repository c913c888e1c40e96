"""The rows of bench/rows_bench.cpp in PyTorch: torch_rows.py eager|compile ROW THREADS FOLDER (protocol: rows.py)"""
import os
import sys
import warnings

import torch
import torch.nn.functional as F

import rows
from torch_train_step import GPT, MLP, LeNet, MobileNetV2, ResNet18, load, load_weights

warnings.filterwarnings("ignore")
MODE, ROW, THREADS, FOLDER = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(THREADS)
SETTINGS = (f"torch {torch.__version__} {MODE}, {THREADS} threads, oneDNN {torch.backends.mkldnn.is_available()}, "
            f"MKL {torch.backends.mkl.is_available()}")
compiled = torch.compile if MODE == "compile" else lambda f: f
MODELS = {
    "mlp_step": lambda w: MLP(64, 64, 10),
    "lenet_step": LeNet,
    "resnet18_step": lambda w: ResNet18(10, True),
    "mobilenetv2_step": lambda w: MobileNetV2(100),
    "gpt_small_step": lambda w: GPT(),
    "gpt2_small_step": lambda w: GPT(50257, 256, 12, 12, 768),
}


def training(make, inner):
    data = load(os.path.join(FOLDER, "inputs.safetensors"))
    x, label = data.pop("input"), data.pop("label").long().reshape(-1)
    if not x.is_floating_point():
        x = x.long()
    model = make(data)
    load_weights(model, data)
    settings = SETTINGS
    if x.ndim == 4 and x.shape[1] > 1:  # oneDNN's convolutions are fastest so
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        settings += ", channels-last"
    bf16 = "_bf16" in ROW
    optimizer = (torch.optim.Adam(model.parameters(), lr=1e-3, foreach=True) if "_adam" in ROW
                 else torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, foreach=True))
    update = compiled(optimizer.step)

    @compiled
    def loss_of():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(x)
            return F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), label)

    def step():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        update()
        return loss

    losses = [step().item() for _ in range(3)]
    # 53 normalised layers: after one step eager PyTorch and torch.compile are 3e-4 apart, too, after two 1e-3.
    allowed = 2e-2 if bf16 else 1e-2 if ROW.startswith("mobilenetv2") else 2e-3
    error = rows.compare(FOLDER, "losses", losses, allowed)

    def run():
        for _ in range(inner):
            step().item()

    rows.answer(run, inner, settings=settings, error=error)


def ops(x):
    if ROW == "eager_add_8":
        return (lambda: x["a"] + x["b"]), 1000
    if ROW.startswith("matmul_f32"):
        return compiled(lambda: x["a"] @ x["b"]), 1
    if ROW.startswith("matmul_bf16"):
        a, b = x["a"].to(torch.bfloat16), x["b"].to(torch.bfloat16)
        return compiled(lambda: a @ b), 1
    if ROW.startswith("depthwise"):
        size = x["w"].shape[-1]
        stride = int(ROW.split("_by")[1])
        return compiled(lambda: F.conv2d(x["x"], x["w"], None, stride, size // 2, 1, x["w"].shape[0])), 1
    inner = 20 if ROW.endswith("_cached") else 1
    name = ROW.removesuffix("_cached")
    calls = {
        "softmax": lambda: x["x"].softmax(-1),
        "layer_norm": lambda: F.layer_norm(x["x"], x["w"].shape, x["w"], x["b"]),
        "gelu_bias": lambda: F.gelu(x["x"] + x["b"]),
        "cross_entropy": lambda: F.cross_entropy(x["x"], x["y"]),
    }
    return (compiled(calls[name]), inner) if name in calls else (None, 1)


def main():
    for name, make in MODELS.items():
        if ROW.startswith(name):
            if ROW.startswith("mlp_step") and ROW.endswith("_compiled") != (MODE == "compile"):
                return rows.absent("eager rows are compared with eager PyTorch, compiled ones with torch.compile")
            return training(make, 50 if name == "mlp_step" else 1)
    x = load(os.path.join(FOLDER, "inputs.safetensors"))
    if ROW == "adam_10m":
        p = torch.nn.Parameter(x["p"].clone())
        p.grad = x["g"]
        optimizer = torch.optim.Adam([p], lr=1e-3, **({"foreach": True} if MODE == "compile" else {"fused": True}))
        step = compiled(optimizer.step)
        for _ in range(3):
            step()
        error = rows.compare(FOLDER, "y", p.detach()[:1000].numpy(), 1e-4)
        return rows.answer(step, 1, settings=SETTINGS, error=error)
    if ROW.startswith("attention_4k"):
        bf16 = ROW.endswith("_bf16")
        q, k, v = (x[n].to(torch.bfloat16 if bf16 else torch.float32, copy=True).requires_grad_(True) for n in "qkv")

        def run():
            q.grad = k.grad = v.grad = None
            F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()

        if MODE == "compile":
            return rows.absent("the same kernel as eager")
        run()
        error = rows.compare(FOLDER, "y", q.grad[:, :, :100].float().numpy(), 2e-2 if bf16 else 2e-3)
        return rows.answer(run, 1, settings=SETTINGS + ", fused attention", error=error)
    torch.set_grad_enabled(False)
    call, inner = ops(x)
    if call is None:
        return rows.absent("PyTorch has no such row")
    y = call()
    # Sums in f32 of either order, rounded to 8 bits.
    allowed = 1e-2 if ROW.startswith("matmul_bf16") else 1e-3 if ROW.startswith("matmul") else 1e-4
    error = rows.compare(FOLDER, "y", y.float().numpy(), allowed)

    def run():
        for _ in range(inner):
            call()

    rows.answer(run, inner, settings=SETTINGS + ", no gradient recorded", error=error)


main()
