#include "tenon/trace/anomaly.h"

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/trace/call_site.h"

namespace tenon::trace {

void check_results(const ops::OpDef& op, const Tensors& out, const std::string& forward_site) {
  for (const auto& x : out) {
    if (!x.defined() || !x.is_concrete() || !is_float(x.dtype())) continue;
    const auto values = x.to_vector<double>();
    for (double v : values) {
      if (!std::isnan(v)) continue;
      const std::string site = forward_site.empty() ? call_site() : forward_site;
      throw NumericError({std::string(op.name),
                          forward_site.empty() ? "NaN in the result" : "NaN in the gradient",
                          {},
                          {},
                          site.empty() ? "" : "look at " + site});
    }
  }
}

}  // namespace tenon::trace
