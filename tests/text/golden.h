// The golden files of this folder: JSON, packed. tools/goldens/tokenizer_files.py writes them.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tenon/base/file.h"
#include "tenon/data/gzip.h"

namespace tenon::testing_support {

inline nlohmann::json read_golden(const std::string& name) {
  const auto bytes = data::gunzip(read_file(TENON_SOURCE_DIR "/tests/text/goldens/" + name), name, 1 << 28);
  return nlohmann::json::parse(reinterpret_cast<const char*>(bytes.data()),
                               reinterpret_cast<const char*>(bytes.data()) + bytes.size());
}

}  // namespace tenon::testing_support
