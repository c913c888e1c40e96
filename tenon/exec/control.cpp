#include "tenon/exec/control.h"

#include <iterator>

#include "tenon/exec/evaluate.h"
#include "tenon/exec/reference.h"
#include "tenon/exec/session.h"
#include "tenon/ops/control.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::exec {
namespace {

// Element t of the first axis, in place.
Tensor element(const Tensor& x, int64_t t) {
  const TensorImpl& impl = *x.impl();
  const Shape shape(impl.type.shape.begin() + 1, impl.type.shape.end());
  const Shape strides(impl.strides.begin() + 1, impl.strides.end());
  return from_buffer(impl.buffer, {impl.type.dtype, shape}, strides, impl.offset + t * impl.strides[0]);
}

void store(const Tensor& x, Tensor& rows, int64_t t) {
  if (x.size() == 0) return;
  View all = mutable_view(rows);
  const View row{all.data, all.dtype, Shape(all.shape.begin() + 1, all.shape.end()),
                 Shape(all.strides.begin() + 1, all.strides.end()), all.offset + t * all.strides[0]};
  Session& s = session();
  if (s.options().reference) {
    reference_copy(view(x), row);
  } else {
    s.device().copy(view(x), row, s.pool());
  }
}

Tensors run_while(Tensors in, const ir::Attrs& attrs) {
  const ops::WhileAttrs loop(attrs);
  const auto carried = static_cast<std::ptrdiff_t>(loop.carried);
  const Tensors constants(in.begin() + carried, in.end());
  for (;;) {
    if (!run(loop.condition, in)[0].item<bool>()) break;
    Tensors next = run(loop.body, std::move(in));
    in = std::move(next);
    in.insert(in.end(), constants.begin(), constants.end());
  }
  in.resize(loop.carried);
  return in;
}

Tensors run_scan(const Tensors& in, const ir::Attrs& attrs) {
  const ops::ScanAttrs scan(attrs);
  const auto carried = static_cast<std::ptrdiff_t>(scan.carried);
  const auto scanned = static_cast<std::ptrdiff_t>(scan.scanned);
  Tensors carry(in.begin(), in.begin() + carried);
  Tensors stacks;
  for (size_t k = scan.carried; k < scan.body.outputs.size(); ++k) {
    TensorType type = scan.body.type(scan.body.outputs[k]);
    type.shape.insert(type.shape.begin(), scan.length);
    stacks.push_back(empty(type.shape, type.dtype));
  }
  for (int64_t step = 0; step < scan.length; ++step) {
    const int64_t t = scan.reverse ? scan.length - 1 - step : step;
    Tensors args = std::move(carry);
    for (std::ptrdiff_t k = carried; k < carried + scanned; ++k) args.push_back(element(in[static_cast<size_t>(k)], t));
    args.insert(args.end(), in.begin() + carried + scanned, in.end());
    Tensors out = run(scan.body, std::move(args));
    for (size_t k = 0; k < stacks.size(); ++k) store(out[scan.carried + k], stacks[k], t);
    out.resize(scan.carried);
    carry = std::move(out);
  }
  carry.insert(carry.end(), std::make_move_iterator(stacks.begin()), std::make_move_iterator(stacks.end()));
  return carry;
}

}  // namespace

Tensors run_control_flow(ops::ControlKind kind, Tensors in, const ir::Attrs& attrs) {
  switch (kind) {
    case ops::ControlKind::Cond: {
      const bool yes = in[0].item<bool>();
      in.erase(in.begin());
      return run(*attrs.graph(yes ? 0 : 1), std::move(in));
    }
    case ops::ControlKind::While:
      return run_while(std::move(in), attrs);
    case ops::ControlKind::Scan:
      break;
  }
  return run_scan(in, attrs);
}

}  // namespace tenon::exec
