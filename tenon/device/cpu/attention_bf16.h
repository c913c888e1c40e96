// Attention of bf16 in blocks (bf16_blocks.h): products of bf16 added up in f32, everything between them in f32;
// probabilities, and the gradients of scores, are rounded for the products that they are a side of, and each result
// once.
//
// 64 queries and 128 keys at a time, as attention.cpp has it in f32; the shapes alone say in which order sums run.
// Memory grows with the lengths: packed keys, values and, on the way back, queries, and their gradients in f32.
#pragma once

#include "tenon/device/device.h"

namespace tenon::cpu {

// False, and nothing is done, where another CPU or another dtype than that of q, k, v and what has their shapes is
// asked.
bool run_attention_bf16(const KernelArgs& a);
bool run_attention_grad_bf16(const KernelArgs& a);

}  // namespace tenon::cpu
