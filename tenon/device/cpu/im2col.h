// Convolution as products of matrices: the path for f64.
#pragma once

#include "tenon/device/cpu/conv.h"

namespace tenon::cpu {

template <class T>
void im2col_forward(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y, ThreadPool& pool);
template <class T>
void im2col_backward_data(const ConvShape& s, const T* dy, const T* weight, T* dx, ThreadPool& pool);
template <class T>
void im2col_backward_weight(const ConvShape& s, const T* x, const T* dy, T* dw, ThreadPool& pool);

}  // namespace tenon::cpu
