"""ONNX models as bytes, written without a library: protobuf by hand, for scripts that need a small model and nothing else.

    model([node("Identity", ["x"], "y")], inputs=[value("x")], outputs=[value("y")])
"""


def varint(v):
    out = b""
    while v >= 128:
        out, v = out + bytes([v & 127 | 128]), v >> 7
    return out + bytes([v])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field_number, v):
    return varint(field_number << 3) + varint(v)


def node(op, inputs, output):
    return b"".join(field(1, i.encode()) for i in inputs) + field(2, output.encode()) + field(4, op.encode())


def value(name, dims=("N",)):
    """Floats; unless told otherwise, a list of any length. A dim is a number, or a text for any extent."""
    shape = b"".join(field(1, field(2, d.encode()) if isinstance(d, str) else number(1, d)) for d in dims)
    return field(1, name.encode()) + field(2, field(1, number(1, 1) + field(2, shape)))


def tensor(name, data_type, dims, raw):
    return b"".join(number(1, d) for d in dims) + number(2, data_type) + field(8, name.encode()) + field(9, raw)


def model(nodes, inputs, outputs, initializers=()):
    graph = b"".join(field(1, n) for n in nodes) + b"".join(field(5, t) for t in initializers)
    graph += b"".join(field(11, v) for v in inputs) + b"".join(field(12, v) for v in outputs)
    return number(1, 8) + field(7, graph) + field(8, field(1, b"") + number(2, 13))
