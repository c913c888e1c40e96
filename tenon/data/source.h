// Source: what a Dataset is made of: random access to examples. To add a kind of dataset, derive from this
// (or use Dataset::from_function); override gather() where a batch can be put together without single examples.
#pragma once

#include <cstdint>
#include <span>

#include "tenon/data/example.h"

namespace tenon::data {

// All that randomness in a dataset may depend on, beside the index: never on threads or on batches.
struct Draw {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
};

class Source {
 public:
  Source() = default;
  virtual ~Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  [[nodiscard]] virtual std::int64_t size() const = 0;
  // 0 <= index < size(). Called from many threads at once.
  [[nodiscard]] virtual Example get(std::int64_t index, const Draw& draw) const = 0;
  // The examples at these indices, stacked. The default stacks what get() returns.
  [[nodiscard]] virtual Example gather(std::span<const std::int64_t> indices, const Draw& draw) const;
};

}  // namespace tenon::data
