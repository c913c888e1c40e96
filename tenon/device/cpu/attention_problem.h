// What the kernels of attention are asked for: shapes, the scale, who sees whom.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "tenon/device/cpu/copy.h"
#include "tenon/ir/attr.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

struct AttentionProblem {
  AttentionProblem(const ConstView& q, const ConstView& k, const ConstView& v, const ConstView& mask_view,
                   const ir::Attrs& attrs)
      : heads(q.shape[1]),
        matrices(q.shape[0] * q.shape[1]),
        queries(q.shape[2]),
        keys(k.shape[2]),
        width(q.shape[3]),
        value_width(v.shape[3]),
        causal(attrs.flag(0)),
        scale(static_cast<float>(attrs.real(1))),
        mask(mask_view),
        mask_strides(4, 0) {
    const size_t missing = 4 - mask.shape.size();
    for (size_t d = 0; d < mask.shape.size(); ++d) mask_strides[d + missing] = mask.shape[d] == 1 ? 0 : mask.strides[d];
  }
  // Keys that any of the queries up to `last` may see.
  [[nodiscard]] int64_t visible(int64_t last) const {
    return causal ? std::clamp<int64_t>(last + keys - queries + 1, 0, keys) : keys;
  }
  // The element of the mask for a query and a key.
  [[nodiscard]] int64_t mask_at(int64_t matrix, int64_t query, int64_t key) const {
    return matrix / heads * mask_strides[0] + matrix % heads * mask_strides[1] + query * mask_strides[2] +
           key * mask_strides[3];
  }

  int64_t heads, matrices, queries, keys, width, value_width;
  bool causal;
  float scale;
  ConstView mask;  // no data: none
  Shape mask_strides;
};

// A tensor [N, heads, length, width] whose rows lie in one piece each: itself or a copy.
template <class T>
class AttentionRows {
 public:
  AttentionRows(const ConstView& x, ThreadPool& pool) : view_(x) {
    if (x.strides[3] == 1 || x.shape[3] == 1) return;
    copied_.emplace(x, pool);
    view_ = {copied_->data(), x.dtype, x.shape, contiguous_strides(x.shape), 0};
  }
  [[nodiscard]] int64_t width() const { return view_.shape[3]; }
  [[nodiscard]] int64_t step() const { return view_.strides[2]; }
  [[nodiscard]] const T* at(int64_t matrix, int64_t row) const {
    const int64_t heads = view_.shape[1];
    return view_.as<T>() + matrix / heads * view_.strides[0] + matrix % heads * view_.strides[1] + row * step();
  }

 private:
  ConstView view_;
  std::optional<Contiguous> copied_;
};

}  // namespace tenon::cpu
