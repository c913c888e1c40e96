"""The step of bench/train_step_bench.cpp in PyTorch, from the weights and the batch that it wrote.

    torch_train_step.py MODEL STEPS THREADS FOLDER [--compile]
"""
import json
import math
import os
import resource
import struct
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

DTYPES = {"F32": torch.float32, "I64": torch.int64, "I32": torch.int32}


def load(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = torch.frombuffer(data[begin:end], dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


class MLP(nn.Module):
    def __init__(self, inputs=784, hidden=256, outputs=10):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class LeNet(nn.Module):
    def __init__(self, w):
        super().__init__()
        def conv(name):
            o, i, k, _ = w[name + ".weight"].shape
            return nn.Conv2d(i, o, k, padding=2 if name == "conv1" else 0)
        def linear(name):
            o, i = w[name + ".weight"].shape
            return nn.Linear(i, o)
        self.conv1, self.conv2 = conv("conv1"), conv("conv2")
        self.fc1, self.fc2, self.fc3 = linear("fc1"), linear("fc2"), linear("fc3")

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


class BasicBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)  # as torchvision has it
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet18(nn.Module):
    def __init__(self, classes=1000, small_images=False):
        super().__init__()
        self.small_images = small_images
        first = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if small_images else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.conv1, self.bn1 = first, nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        stage = lambda i, o, s: nn.Sequential(BasicBlock(i, o, s), BasicBlock(o, o, 1))
        self.layer1, self.layer2, self.layer3, self.layer4 = stage(64, 64, 1), stage(64, 128, 2), stage(128, 256, 2), stage(256, 512, 2)
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        if not self.small_images:
            x = F.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def conv_norm(i, o, k, stride, groups, act=True):
    return nn.Sequential(nn.Conv2d(i, o, k, stride, (k - 1) // 2, groups=groups, bias=False), nn.BatchNorm2d(o),
                         *([nn.ReLU6(inplace=True)] if act else []))


class InvertedResidual(nn.Module):
    def __init__(self, i, o, stride, expansion):
        super().__init__()
        self.residual = stride == 1 and i == o
        hidden = i * expansion
        self.conv = nn.Sequential(*([conv_norm(i, hidden, 1, 1, 1)] if expansion != 1 else []),
                                  conv_norm(hidden, hidden, 3, stride, hidden), *conv_norm(hidden, o, 1, 1, 1, False))

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers, i = [conv_norm(3, 32, 3, 2, 1)], 32
        for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            for block in range(n):
                layers.append(InvertedResidual(i, c, s if block == 0 else 1, t))
                i = c
        self.features = nn.Sequential(*layers, conv_norm(i, 1280, 1, 1, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class GPTBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = (z.view(b, t, self.heads, w // self.heads).transpose(1, 2) for z in self.attn["qkv"](self.ln1(x)).split(w, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, w)
        x = x + self.attn["out"](y)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.ln2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, vocabulary=65, context=64, layers=4, heads=4, width=128):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(GPTBlock(width, heads) for _ in range(layers))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def load_weights(model, tensors):
    weights = {k.replace("downsample.conv", "downsample.0").replace("downsample.norm", "downsample.1"): v for k, v in tensors.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all("num_batches" in k or k == "lm_head.weight" for k in missing), (missing, unexpected)


def main():
    name, steps, threads, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(threads)
    start = load(os.path.join(folder, "start.safetensors"))
    x, label = start.pop("input"), start.pop("label").long().reshape(-1)
    if x.dtype == torch.int32:
        x = x.long()
    model = {"mlp": MLP, "lenet": lambda: LeNet(start), "resnet18": ResNet18, "gpt": GPT}[name]()
    load_weights(model, start)
    del start
    forward = torch.compile(model) if "--compile" in sys.argv else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    losses, seconds = [], []
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad()
        logits = forward(x)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps({"losses": losses, "seconds": seconds, "memory": memory}))


if __name__ == "__main__":
    main()
