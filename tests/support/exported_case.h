// Keeps exported models with inputs and outputs for tools/check_onnx_export.py, which runs them in ONNX Runtime: in
// $TENON_EXPORT_FOLDER, if that is set.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/exec/evaluate.h"

namespace tenon::testing_support {

inline void keep_exported(const std::string& name, const std::string& model, const Tensors& in, const Tensors& out) {
  const char* root = std::getenv("TENON_EXPORT_FOLDER");
  if (!root) return;
  const std::string folder = std::string(root) + "/" + name;
  std::filesystem::create_directories(folder);
  write_file_atomic(folder + "/model.onnx", model);
  // NumPy's files have no bf16 and nothing narrower: such a model is only checked and loaded.
  const auto nameless = [](const Tensor& x) { return x.dtype() == DType::BF16 || info(x.dtype()).storage_only; };
  if (std::ranges::any_of(in, nameless) || std::ranges::any_of(out, nameless))
    return write_file_atomic(folder + "/no_arrays", std::string_view());
  const auto put = [&](const std::string& what, const Tensors& xs) {
    for (size_t i = 0; i < xs.size(); ++i) {
      std::string file = folder + "/" + what;
      file.append("_").append(std::to_string(i)).append(".npy");
      data::write_npy(file, data::to_host(exec::contiguous(xs[i])));
    }
  };
  put("input", in);
  put("output", out);
}

}  // namespace tenon::testing_support
