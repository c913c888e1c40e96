// Checkpoint: everything that a fit needs to go on bit for bit, in one SafeTensors file that appears by rename.
//
// Tensors are named "model.NAME" and "optimizer.NAME"; the numbers of the loop are JSON in the metadata.
#pragma once

#include <cstdint>
#include <string>

#include "tenon/tensor/state_dict.h"

namespace tenon::train {

// Where the loop stands, with what the next row of metrics has gathered so far.
struct LoopState {
  std::int64_t step = 0;
  std::uint64_t loader_seed = 0;
  std::int64_t loader_epoch = 0;
  std::int64_t loader_position = 0;
  std::int64_t dataset_size = 0;
  std::int64_t batch_size = 0;
  std::uint64_t random_seed = 0;  // of the default generator
  std::uint64_t random_counter = 0;
  double loss_sum = 0;        // since the last row, weighted by examples
  std::int64_t examples = 0;  // since the last row
  std::int64_t labels = 0;
  std::int64_t correct = 0;
  double row_seconds = 0;  // since the last row
  double seconds = 0;      // in all
  bool operator==(const LoopState&) const = default;
};

struct Checkpoint {
  StateDict model;
  StateDict optimizer;
  LoopState loop;
};

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint);
// Errors: FileError; FormatError if the file is damaged or not a checkpoint.
[[nodiscard]] Checkpoint load_checkpoint(const std::string& path);

}  // namespace tenon::train
