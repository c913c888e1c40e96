"""Writes tests/nn/goldens/{layers,losses,init}.json: what PyTorch's layers and losses give for small inputs and weights
(computed in f64), the derivatives of sum(cos(0.7 k + 0.3) * output[k]), and how its layers' weights start."""

import json
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(20)
torch.set_default_dtype(torch.float64)
OUT = Path(__file__).resolve().parents[2] / "tests/nn/goldens"


def short(t):
    """Multiples of 1/64, which are exact in f32 and short in text."""
    return torch.round(t * 64) / 64


def pack(t):
    t = t.detach()
    if t.dtype.is_floating_point:
        return {"shape": list(t.shape), "values": [float(f"{v:.7g}") for v in t.flatten().tolist()]}
    return {"shape": list(t.shape), "values": t.flatten().tolist(), "dtype": "bool" if t.dtype == torch.bool else "i64"}


def weighted(outputs):
    return sum((torch.cos(0.7 * torch.arange(o.numel()) + 0.3) * o.flatten()).sum() for o in outputs)


def randn(*shape):
    return short(torch.randn(*shape))


cases = []


def case(name, layer, inputs, call=None):
    with torch.no_grad():
        for p in list(layer.parameters()):
            p.copy_(short(p + 0.25 * torch.randn_like(p)))
    before = {k: pack(v) for k, v in layer.state_dict().items()}
    inputs = [i.clone().requires_grad_() if i.dtype.is_floating_point else i for i in inputs]
    out = layer(*inputs) if call is None else call(layer, *inputs)
    out = [o for o in (out if isinstance(out, (tuple, list)) else [out])]
    row = {"name": name, "state": before, "inputs": [pack(i) for i in inputs], "outputs": [pack(o) for o in out]}
    weighted([o for o in out if o.dtype.is_floating_point]).backward()
    row["input_grads"] = [pack(i.grad) if i.requires_grad and i.grad is not None else None for i in inputs]
    row["grads"] = {k: pack(v.grad) for k, v in layer.named_parameters() if v.grad is not None}
    row["after"] = {k: pack(v) for k, v in layer.named_buffers()}
    cases.append(row)


def flat_lstm(out):
    return out[0], out[1][0], out[1][1]


def packed(layer, x, lengths, *state):
    seq = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=layer.batch_first, enforce_sorted=False)
    if len(state) == 0:
        y, last = layer(seq)
    else:
        y, last = layer(seq, state if len(state) == 2 else state[0])
    y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=layer.batch_first, total_length=x.shape[1 if layer.batch_first else 0])
    return (y, *last) if isinstance(last, tuple) else (y, last)


# ---- recurrent ----
case("RNN", nn.RNN(2, 3), [randn(4, 2, 2)])
case("RNN_relu_two_layers_both_ways", nn.RNN(2, 3, 2, nonlinearity="relu", bidirectional=True), [randn(3, 2, 2), randn(4, 2, 3)])
case("LSTM", nn.LSTM(2, 3), [randn(4, 2, 2)], lambda m, x: flat_lstm(m(x)))
case("LSTM_two_layers_both_ways_lengths", nn.LSTM(2, 2, 2, bidirectional=True),
     [randn(4, 3, 2), torch.tensor([2, 4, 3]), randn(4, 3, 2), randn(4, 3, 2)], packed)
case("LSTM_projection_batch_first", nn.LSTM(2, 4, 2, proj_size=3, batch_first=True), [randn(2, 3, 2)], lambda m, x: flat_lstm(m(x)))
case("LSTM_one_example_without_bias", nn.LSTM(2, 3, bias=False), [randn(4, 2)], lambda m, x: flat_lstm(m(x)))
case("GRU", nn.GRU(2, 3), [randn(4, 2, 2), randn(1, 2, 3)])
case("GRU_two_layers_both_ways_lengths", nn.GRU(2, 2, 2, bidirectional=True, batch_first=True),
     [randn(3, 4, 2), torch.tensor([4, 1, 3])], packed)
case("RNNCell", nn.RNNCell(2, 3), [randn(2, 2), randn(2, 3)])
case("LSTMCell", nn.LSTMCell(2, 3), [randn(2, 2), randn(2, 3), randn(2, 3)], lambda m, x, h, c: m(x, (h, c)))
case("GRUCell", nn.GRUCell(2, 3), [randn(2, 2), randn(2, 3)])

# ---- convolutions, linear ----
case("Conv1d", nn.Conv1d(4, 2, 3, stride=2, padding=1, groups=2), [randn(2, 4, 7)])
case("Conv3d", nn.Conv3d(2, 2, 2, dilation=(1, 2, 1)), [randn(1, 2, 3, 4, 3)])
case("ConvTranspose1d", nn.ConvTranspose1d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2), [randn(2, 4, 3)])
case("ConvTranspose2d", nn.ConvTranspose2d(2, 3, (2, 3), stride=(2, 1), dilation=(1, 2), padding=1), [randn(1, 2, 3, 3)])
case("ConvTranspose3d", nn.ConvTranspose3d(2, 2, 2, stride=2, bias=False), [randn(1, 2, 2, 2, 1)])
case("Bilinear", nn.Bilinear(2, 3, 4), [randn(2, 2), randn(2, 3)])

# ---- attention ----
case("MultiheadAttention", nn.MultiheadAttention(4, 2), [randn(3, 2, 4), randn(5, 2, 4), randn(5, 2, 4)])
padding = torch.tensor([[False, False, True], [False, True, True]])
causal = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
case("MultiheadAttention_masks_batch_first", nn.MultiheadAttention(4, 2, batch_first=True), [randn(2, 3, 4), padding, causal],
     lambda m, x, p, c: m(x, x, x, key_padding_mask=p, attn_mask=c))
case("MultiheadAttention_more_keys", nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True, bias=False),
     [randn(3, 2, 4), randn(3, 3)], lambda m, x, a: m(x, x, x, attn_mask=a))
case("MultiheadAttention_other_widths", nn.MultiheadAttention(4, 2, kdim=3, vdim=5), [randn(2, 1, 4), randn(3, 1, 3), randn(3, 1, 5)])
case("TransformerEncoderLayer", nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0), [randn(3, 2, 4)])
case("TransformerEncoderLayer_norm_first_gelu",
     nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, norm_first=True, activation="gelu", batch_first=True, bias=False), [randn(2, 3, 4)])
case("TransformerDecoderLayer", nn.TransformerDecoderLayer(4, 2, 5, dropout=0.0), [randn(3, 2, 4), randn(2, 2, 4)],
     lambda m, x, memory: m(x, memory, tgt_mask=causal))
case("Transformer", nn.Transformer(4, 2, 2, 1, 3, dropout=0.0), [randn(3, 1, 4), randn(2, 1, 4)])

# ---- normalisation ----
case("BatchNorm1d", nn.BatchNorm1d(3), [randn(4, 3)])
case("BatchNorm2d", nn.BatchNorm2d(2, momentum=0.3), [randn(2, 2, 2, 3)])
case("BatchNorm3d", nn.BatchNorm3d(2), [randn(2, 2, 1, 2, 2)])
case("InstanceNorm1d", nn.InstanceNorm1d(2), [randn(2, 2, 4)])
case("InstanceNorm2d", nn.InstanceNorm2d(2, affine=True, track_running_stats=True), [randn(2, 2, 2, 3)])
case("GroupNorm", nn.GroupNorm(2, 4), [randn(2, 4, 3)])
case("LayerNorm", nn.LayerNorm((2, 3)), [randn(2, 2, 3)])
case("LayerNorm_without_bias", nn.LayerNorm(3, bias=False), [randn(2, 3)])
case("RMSNorm", nn.RMSNorm(4, eps=1e-6), [randn(2, 4)])
case("LocalResponseNorm", nn.LocalResponseNorm(3, alpha=0.3, beta=0.6, k=1.5), [randn(1, 4, 2)])

# ---- pooling ----
case("MaxPool1d", nn.MaxPool1d(3, 2, padding=1, ceil_mode=True), [randn(1, 2, 8)])
case("MaxPool2d", nn.MaxPool2d((2, 3), 1, dilation=(2, 1)), [randn(1, 1, 4, 5)])
case("MaxPool3d", nn.MaxPool3d(2), [randn(1, 1, 4, 2, 3)])
case("AvgPool1d", nn.AvgPool1d(3, 2, padding=1, count_include_pad=False), [randn(1, 2, 7)])
case("AvgPool2d", nn.AvgPool2d(2, 1, padding=1), [randn(1, 1, 3, 3)])
case("AvgPool3d", nn.AvgPool3d(2, ceil_mode=True), [randn(1, 1, 3, 2, 3)])
case("LPPool1d", nn.LPPool1d(3, 2), [short(torch.rand(1, 2, 6) + 0.5)])
case("LPPool2d", nn.LPPool2d(2, (2, 1), stride=1), [randn(1, 1, 3, 3)])
case("AdaptiveAvgPool1d", nn.AdaptiveAvgPool1d(3), [randn(1, 2, 5)])
case("AdaptiveAvgPool2d", nn.AdaptiveAvgPool2d((2, 3)), [randn(1, 1, 5, 4)])
case("AdaptiveAvgPool3d", nn.AdaptiveAvgPool3d(2), [randn(1, 1, 3, 2, 4)])
case("AdaptiveMaxPool1d", nn.AdaptiveMaxPool1d(3), [randn(1, 2, 5)])
case("AdaptiveMaxPool2d", nn.AdaptiveMaxPool2d((2, 3)), [randn(1, 1, 5, 4)])
case("AdaptiveMaxPool3d", nn.AdaptiveMaxPool3d(2), [randn(1, 1, 3, 2, 4)])
pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
case("MaxUnpool2d", nn.Identity(), [randn(1, 2, 4, 5)], lambda m, x: unpool(*pool(x), output_size=(4, 5)))

# ---- padding, shapes ----
case("ConstantPad1d", nn.ConstantPad1d((1, 2), 0.5), [randn(1, 2, 3)])
case("ConstantPad3d", nn.ConstantPad3d((1, 0, 0, 1, 2, -1), -1.5), [randn(1, 1, 2, 2, 2)])
case("ZeroPad2d", nn.ZeroPad2d((1, 0, 2, 1)), [randn(1, 1, 2, 3)])
case("ReflectionPad1d", nn.ReflectionPad1d((2, 1)), [randn(1, 2, 4)])
case("ReflectionPad2d", nn.ReflectionPad2d((1, 2, 0, 1)), [randn(1, 1, 3, 3)])
case("ReplicationPad2d", nn.ReplicationPad2d((1, 2, 0, 1)), [randn(1, 1, 2, 3)])
case("ReplicationPad3d", nn.ReplicationPad3d(1), [randn(1, 1, 2, 2, 1)])
case("CircularPad2d", nn.CircularPad2d((1, 2, 0, 1)), [randn(1, 1, 2, 3)])
case("Flatten", nn.Flatten(1, 2), [randn(2, 2, 3, 1)])
case("Unflatten", nn.Unflatten(1, (2, -1)), [randn(2, 6, 1)])
case("PixelShuffle", nn.PixelShuffle(2), [randn(1, 8, 1, 2)])
case("PixelUnshuffle", nn.PixelUnshuffle(2), [randn(1, 1, 4, 2)])
case("ChannelShuffle", nn.ChannelShuffle(2), [randn(1, 6, 2)])
case("CosineSimilarity", nn.CosineSimilarity(dim=1), [randn(2, 4), randn(2, 4)])
case("PairwiseDistance", nn.PairwiseDistance(p=3), [randn(2, 4), randn(2, 4)])

# ---- activations ----
plain = dict(Identity=nn.Identity(), ReLU=nn.ReLU(), ReLU6=nn.ReLU6(), LeakyReLU=nn.LeakyReLU(0.2), ELU=nn.ELU(1.3), SELU=nn.SELU(),
             CELU=nn.CELU(1.3), GELU=nn.GELU(), GELU_tanh=nn.GELU("tanh"), SiLU=nn.SiLU(), Mish=nn.Mish(), Tanh=nn.Tanh(),
             Sigmoid=nn.Sigmoid(), LogSigmoid=nn.LogSigmoid(), HardSwish=nn.Hardswish(), HardSigmoid=nn.Hardsigmoid(),
             HardTanh=nn.Hardtanh(-0.8, 0.7), Softplus=nn.Softplus(1.5), Softsign=nn.Softsign(), Tanhshrink=nn.Tanhshrink(),
             Hardshrink=nn.Hardshrink(0.4), Softshrink=nn.Softshrink(0.4), Threshold=nn.Threshold(0.3, -2.0), Softmin=nn.Softmin(-1),
             Softmax=nn.Softmax(-1), LogSoftmax=nn.LogSoftmax(-1), GLU=nn.GLU(-1))
points = torch.tensor([[-3.4, -1.21, -0.55, -0.17], [0.13, 0.47, 1.33, 4.2]])
for name, layer in plain.items():
    case(name, layer, [short(points)])
case("Softmax2d", nn.Softmax2d(), [randn(1, 3, 1, 2)])
case("PReLU", nn.PReLU(), [short(points)])
case("PReLU_channels", nn.PReLU(2), [randn(2, 2, 3)])
case("RReLU_evaluating", nn.RReLU().eval(), [short(points)])

OUT.mkdir(exist_ok=True)


def write(name, rows):
    path = OUT / name
    path.write_text("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")
    print(name, len(rows), path.stat().st_size)


write("layers.json", cases)

# ---- losses ----
losses = []


def loss(name, fn, inputs, **options):
    for reduction in ("mean", "sum", "none"):
        ins = [i.clone().requires_grad_() if i.dtype.is_floating_point else i for i in inputs]
        out = fn(*ins, reduction=reduction, **options)
        weighted([out]).backward()
        losses.append({"name": name, "reduction": reduction, "inputs": [pack(i) for i in inputs], "output": pack(out),
                       "grads": [pack(i.grad) if i.requires_grad and i.grad is not None else None for i in ins]})


x, y = randn(2, 3), randn(2, 3)
sign = torch.tensor([[1.0, -1, 1], [-1, 1, -1]])
prob, prob2 = short(torch.rand(2, 3) * 0.8 + 0.1), short(torch.rand(2, 3) * 0.8 + 0.1)
classes = torch.tensor([2, 0, -100, 1])
logits, weight = randn(4, 3), torch.tensor([0.5, 2.0, 1.25])
maps, map_target = randn(2, 3, 2), torch.tensor([[0, 2], [-100, 1]])


def detach(*at):
    """Targets and weights stand as constants: their gradients are not compared."""
    def make(fn):
        def call(*args, **kw):
            return fn(*[a.detach() if i in at else a for i, a in enumerate(args)], **kw)
        return call
    return make


loss("mse", F.mse_loss, [x, y])
loss("l1", F.l1_loss, [x, y])
loss("huber", F.huber_loss, [x, y], delta=0.7)
loss("smooth_l1", F.smooth_l1_loss, [x, y], beta=0.6)
loss("bce", detach(1)(F.binary_cross_entropy), [prob, prob2])
loss("bce_with_logits", detach(1)(F.binary_cross_entropy_with_logits), [x, prob])
loss("bce_with_logits_weights", detach(1, 2)(lambda a, b, w, reduction: F.binary_cross_entropy_with_logits(a, b, pos_weight=w, weight=w, reduction=reduction)), [x, prob, weight])
loss("kl_div", F.kl_div, [x, prob])
loss("kl_div_log", F.kl_div, [x, y], log_target=True)
loss("soft_margin", detach(1)(F.soft_margin_loss), [x, sign])
loss("hinge_embedding", detach(1)(F.hinge_embedding_loss), [x, sign], margin=0.8)
loss("margin_ranking", detach(2)(F.margin_ranking_loss), [x, y, sign], margin=0.3)
loss("poisson_nll", detach(1)(F.poisson_nll_loss), [x, prob * 4], full=True)
loss("poisson_nll_rate", detach(1)(F.poisson_nll_loss), [prob, prob2 * 4], log_input=False)
loss("gaussian_nll", F.gaussian_nll_loss, [x, y, prob], full=True)
loss("cosine_embedding", detach(2)(F.cosine_embedding_loss), [randn(3, 4), randn(3, 4), torch.tensor([1.0, -1, -1])], margin=-0.6)
loss("triplet", F.triplet_margin_loss, [randn(3, 4), randn(3, 4), randn(3, 4)], margin=1.5)
loss("triplet_swap", F.triplet_margin_loss, [randn(3, 4), randn(3, 4), randn(3, 4)], margin=2.0, p=3, swap=True)
loss("multi_margin", F.multi_margin_loss, [logits, torch.tensor([2, 0, 1, 1])])
loss("multi_margin_squared", detach(2)(lambda a, b, w, reduction: F.multi_margin_loss(a, b, p=2, margin=0.8, weight=w, reduction=reduction)), [logits, torch.tensor([2, 0, 1, 1]), weight])
loss("multilabel_margin", F.multilabel_margin_loss, [randn(2, 4), torch.tensor([[3, 0, -1, 1], [-1, 2, 2, 2]])])
loss("multilabel_soft_margin", detach(1)(F.multilabel_soft_margin_loss), [x, (sign > 0).double()])
loss("cross_entropy", F.cross_entropy, [logits, classes], label_smoothing=0.1)
loss("cross_entropy_weights", detach(2)(lambda a, b, w, reduction: F.cross_entropy(a, b, weight=w, label_smoothing=0.2, reduction=reduction)), [logits, classes, weight])
loss("nll", F.nll_loss, [maps, map_target])
loss("nll_weights", detach(2)(lambda a, b, w, reduction: F.nll_loss(a, b, weight=w, reduction=reduction)), [maps, map_target, weight])


def ctc(a, targets, lengths, target_lengths, reduction, **kw):
    return F.ctc_loss(a.log_softmax(-1), targets, lengths, target_lengths, reduction=reduction, **kw)


steps = torch.tensor([6, 5, 6])
loss("ctc", ctc, [randn(6, 3, 4), torch.tensor([[1, 2, 2], [3, 1, 0], [2, 0, 0]]), steps, torch.tensor([3, 2, 1])])
loss("ctc_concatenated", ctc, [randn(6, 3, 4), torch.tensor([1, 2, 0, 0, 2]), steps, torch.tensor([3, 0, 2])], blank=3)
loss("ctc_impossible", ctc, [randn(3, 2, 3), torch.tensor([[1, 1], [1, 2]]), torch.tensor([2, 3]), torch.tensor([2, 2])], zero_infinity=True)
write("losses.json", losses)

# ---- how weights start: largest magnitude and deviation ----
starts = []
for name, layer in dict(Linear=nn.Linear(60, 50), Bilinear=nn.Bilinear(20, 15, 12), Conv1d=nn.Conv1d(24, 32, 5, groups=2), Conv2d=nn.Conv2d(12, 32, 5),
                        Conv3d=nn.Conv3d(8, 16, 3), ConvTranspose1d=nn.ConvTranspose1d(24, 32, 5, groups=2), ConvTranspose2d=nn.ConvTranspose2d(12, 32, 5),
                        ConvTranspose3d=nn.ConvTranspose3d(8, 16, 3), Embedding=nn.Embedding(80, 30), RNN=nn.RNN(30, 40), LSTM=nn.LSTM(30, 40, 2, bidirectional=True),
                        LSTM_projection=nn.LSTM(30, 40, proj_size=20), GRU=nn.GRU(30, 40), RNNCell=nn.RNNCell(30, 40), LSTMCell=nn.LSTMCell(30, 40), GRUCell=nn.GRUCell(30, 40),
                        MultiheadAttention=nn.MultiheadAttention(40, 4, add_bias_kv=True), MultiheadAttention_other_widths=nn.MultiheadAttention(40, 4, kdim=30, vdim=20),
                        TransformerEncoderLayer=nn.TransformerEncoderLayer(32, 4, 50), TransformerDecoderLayer=nn.TransformerDecoderLayer(32, 4, 50),
                        Transformer=nn.Transformer(32, 4, 1, 1, 50), BatchNorm=nn.BatchNorm2d(8), InstanceNorm=nn.InstanceNorm1d(8, affine=True, track_running_stats=True),
                        LayerNorm=nn.LayerNorm(8), GroupNorm=nn.GroupNorm(2, 8), RMSNorm=nn.RMSNorm(8), PReLU=nn.PReLU(3)).items():
    starts.append({"name": name, "weights": {k: {"shape": list(v.shape), "largest": float(f"{v.double().abs().max():.5g}"),
                                                 "deviation": float(f"{v.double().square().mean().sqrt():.5g}")} for k, v in layer.state_dict().items()}})
write("init.json", starts)
