// Plain algorithms for single matrices: short, and right to rounding. Devices claim the ops for speed.
#pragma once

#include "tenon/ops/linalg_matrix.h"

namespace tenon::ops {

void cholesky_reference(const ReferenceArgs& args);
void triangular_solve_reference(const ReferenceArgs& args);
void solve_reference(const ReferenceArgs& args);
void slogdet_reference(const ReferenceArgs& args);
void qr_reference(const ReferenceArgs& args);
void complement_reference(const ReferenceArgs& args);
void eigh_reference(const ReferenceArgs& args);
void svd_reference(const ReferenceArgs& args);

}  // namespace tenon::ops
