#!/usr/bin/env python3
"""A reader of Tenon packages, written from docs/package.md alone: checks, reads and runs one with the standard library.

    package_reader.py FILE INPUTS.json EXPECTED.json

INPUTS and EXPECTED are lists of nested lists. It knows the ops of the golden file; more would be more rows in OPS.
"""
import hashlib
import json
import math
import re
import struct
import sys


def read_safetensors(path):
    data = open(path, "rb").read()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    elements = data[8 + size:]
    return metadata, {name: (e["dtype"], e["shape"], elements[slice(*e["data_offsets"])]) for name, e in header.items()}


def check(metadata, tensors):
    assert int(metadata["tenon.format"]) == 1, "another format"
    sums = json.loads(metadata["tenon.sha256"])
    for key, text in metadata.items():
        if key.startswith("tenon.") and key != "tenon.sha256":
            assert hashlib.sha256(text.encode()).hexdigest() == sums["texts"][key], key
    for name, (_, _, data) in tensors.items():
        assert hashlib.sha256(data).hexdigest() == sums["tensors"][name], name
    missing = set(json.loads(metadata["tenon.ops"])) - set(OPS)
    assert not missing, f"ops that this reader does not have: {missing}"


TOKEN = re.compile(r'\s*(?:#[^\n]*)?("(?:[^"\\]|\\.)*"|->|[%@]?[A-Za-z0-9_.+-]+(?:\([0-9a-f]+\))?|.)', re.S)


class Graph:
    """Inputs, outputs and nodes; numbers that depend on sizes stay text such as "2*n + 1"."""

    def __init__(self, text):
        self.tokens, self.at, self.nodes = [t for t in TOKEN.findall(text) if t.strip()], 0, []
        self.take("graph")
        if self.peek().startswith('"'):
            self.next()
        if self.peek() == "[":  # sizes
            self.until("]")
        self.inputs = self.group(self.definition)
        self.take("->")
        self.outputs = self.group(self.next)
        self.take("{")
        while self.peek() != "}":
            self.node()

    def peek(self):
        return self.tokens[self.at]

    def next(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def take(self, token):
        assert self.next() == token, f"expected {token}, got {self.tokens[self.at - 1]}"

    def until(self, end):
        """The text in a pair of brackets that opens here, nested ones included."""
        parts, depth = [], 0
        while True:
            token = self.next()
            depth += (token in "([{") - (token in ")]}")
            if depth == 0 and token == end:
                return " ".join(parts[1:])
            parts.append(token)

    def list(self, item):
        items = [item()]
        while self.peek() == ",":
            self.next()
            items.append(item())
        return items

    def group(self, item):
        self.take("(")
        items = self.list(item) if self.peek() != ")" else []
        self.take(")")
        return items

    def definition(self):
        value = self.next()
        if self.peek().startswith('"'):
            self.next()
        self.take(":")
        self.next()  # dtype
        return value, [s.strip() for s in self.until("]").split(",") if s.strip()]

    def node(self):
        results = self.list(self.definition)
        self.take("=")
        op, operands, attrs = self.next(), [], {}
        if op == "const":
            operands = [self.next() if self.peek().startswith("@") else self.until("}")]
        else:
            operands = self.group(self.next)
            if self.peek() == "{":
                for pair in re.split(r", (?=\w+ =)", self.until("}")):
                    key, value = pair.split("=", 1)
                    attrs[key.strip()] = value.strip().strip("[]").strip()
        while self.peek() in ("in", "from"):
            self.at += 2
        self.nodes.append((op, operands, attrs, results))


def each(fn, *xs):
    """Broadcasts matrices, rows and numbers."""
    depth = lambda x: 1 + depth(x[0]) if isinstance(x, list) else 0
    deepest = max(map(depth, xs))
    if deepest == 0:
        return fn(*xs)
    length = max(len(x) for x in xs if depth(x) == deepest)
    return [each(fn, *(x if depth(x) < deepest else x[i % len(x)] for x in xs)) for i in range(length)]


OPS = {
    "matmul": lambda attrs, a, b: [[math.fsum(x * y for x, y in zip(r, c)) for c in zip(*b)] for r in a],
    "permute": lambda attrs, x: [list(column) for column in zip(*x)],
    "slice": lambda attrs, x: x[int(attrs["starts"]):int(attrs["starts"]) + int(attrs["sizes"])],
    "add": lambda attrs, a, b: each(lambda x, y: x + y, a, b),
    "multiply": lambda attrs, a, b: each(lambda x, y: x * y, a, b),
    "relu": lambda attrs, x: each(lambda v: max(v, 0.0), x),
    "tanh": lambda attrs, x: each(math.tanh, x),
}


def nested(shape, values):
    return [nested(shape[1:], values) for _ in range(shape[0])] if shape else next(values)


def run(path, inputs):
    metadata, tensors = read_safetensors(path)
    check(metadata, tensors)
    stored = [tensors[entry["tensor"]] for entry in json.loads(metadata["tenon.constants"])]
    table = [nested(shape, iter(struct.unpack(f"<{len(data) // 4}f", data))) for _, shape, data in stored]
    graph = Graph(metadata["tenon.graph.main"])
    values = {name: x for (name, _), x in zip(graph.inputs, inputs)}
    for op, operands, attrs, results in graph.nodes:
        if op != "const":
            result = OPS[op](attrs, *(values[o] for o in operands))
        elif operands[0].startswith("@"):
            result = table[int(operands[0][1:])]
        else:
            result = nested([int(s) for s in results[0][1]], iter(float(v) for v in operands[0].split(",")))
        values[results[0][0]] = result
    return [values[o] for o in graph.outputs]


def flat(x):
    return [v for part in x for v in flat(part)] if isinstance(x, list) else [x]


if __name__ == "__main__":
    got, want = run(sys.argv[1], json.load(open(sys.argv[2]))), json.load(open(sys.argv[3]))
    apart = max(abs(a - b) for a, b in zip(flat(got), flat(want), strict=True))
    print(f"largest difference {apart:.3g}")
    sys.exit(apart > 1e-5)
