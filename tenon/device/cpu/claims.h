// The ops for which the CPU has kernels of its own: the one table of {definition, when, by which function}.
// To add a kernel: one row in claims.cpp.
#pragma once

#include <span>

#include "tenon/device/device.h"

namespace tenon::cpu {

std::span<const Claim> cpu_claims();

}  // namespace tenon::cpu
