"""Logits of ResNet-50 and MobileNetV2 with torchvision's names and shapes, for tests/models/vision_models_test.cpp.

    python tools/goldens/vision_models.py      # needs torch and numpy

The modules are written out here after torchvision's, whose state dicts they load. Weights and image follow a formula
(`fill`), which the test has too, so that the golden file is a few numbers.
"""
import json
import os

import numpy as np
import torch
from torch import nn

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "models", "goldens", "vision", "expected.json")


def uniform(count, stream):
    """Numbers in [-1, 1) by a hash of the element's number."""
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(stream) * np.uint64(2654404609)) & mask
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(2246822519)) & mask
    x ^= x >> np.uint64(13)
    return x.astype(np.float64) / 2.0**31 - 1


def fill(shape, name, stream):
    u = uniform(int(np.prod(shape)), stream)
    if name.endswith("running_var"):
        u = 1 + 0.5 * u
    elif len(shape) > 1:
        u = u * np.sqrt(6 / np.prod(shape[1:]))
    elif name.endswith("weight"):
        u = 1 + 0.2 * u
    else:
        u = 0.1 * u
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


class Bottleneck(nn.Module):
    def __init__(self, i, width, stride):
        super().__init__()
        o = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(i, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, o, 1, bias=False), nn.BatchNorm2d(o)
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        i = 64
        for n, (width, depth, stride) in enumerate([(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]):
            blocks = []
            for k in range(depth):
                blocks.append(Bottleneck(i, width, stride if k == 0 else 1))
                i = 4 * width
            setattr(self, f"layer{n + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def conv_norm(i, o, kernel, stride, groups):
    return nn.Sequential(nn.Conv2d(i, o, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(o), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, i, o, stride, expansion):
        super().__init__()
        hidden = i * expansion
        layers = [conv_norm(i, hidden, 1, 1, 1)] if expansion != 1 else []
        layers += [conv_norm(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, o, 1, bias=False), nn.BatchNorm2d(o)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        layers, i = [conv_norm(3, 32, 3, 2, 1)], 32
        for t, o, n, s in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                           (6, 320, 1, 1)]:
            for k in range(n):
                layers.append(InvertedResidual(i, o, s if k == 0 else 1, t))
                i = o
        layers.append(conv_norm(i, 1280, 1, 1, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def main():
    expected = {}
    for name, model in (("resnet50", ResNet50()), ("mobilenet_v2", MobileNetV2())):
        model.eval()
        shapes = {k: list(v.shape) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
        weights = {k: fill(shapes[k], k, n + 1) for n, k in enumerate(sorted(shapes))}
        missing = model.load_state_dict(weights, strict=False)
        assert all(k.endswith("num_batches_tracked") for k in missing.missing_keys)
        image = torch.from_numpy(uniform(2 * 3 * 64 * 64, 0).astype(np.float32).reshape(2, 3, 64, 64))
        with torch.inference_mode():
            logits = model(image)
        expected[name] = {"logits": [[round(float(v), 6) for v in row[:8]] for row in logits],
                          "largest": round(float(logits.abs().max()), 4), "weights": len(weights),
                          "first": sorted(shapes)[0], "last": sorted(shapes)[-1]}
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    with open(OUT, "w", encoding="utf-8") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
