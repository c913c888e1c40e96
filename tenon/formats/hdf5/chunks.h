// Where the chunks of a data set lie: the layout message's chunked form and its indices.
#pragma once

#include <vector>

#include "tenon/formats/hdf5/datatype.h"
#include "tenon/formats/hdf5/object_header.h"

namespace tenon::formats::hdf5 {

struct Filter {
  std::uint16_t id = 0;
  bool optional = false;
};
// The filters of the pipeline message, in the order of writing.
std::vector<Filter> read_filters(const Message& message);

struct Chunk {
  std::vector<std::uint64_t> at;  // its first element's index
  std::uint64_t address = 0;
  std::uint64_t size = 0;     // bytes in the file
  std::uint32_t skipped = 0;  // bit i: filter i was not applied
};

struct ChunkedLayout {
  std::vector<std::uint64_t> extents;  // of a chunk
  std::uint64_t element_size = 0;
  std::uint64_t bytes = 0;  // of a whole chunk, unpacked
  std::vector<Chunk> chunks;
};

// `body` stands behind the layout message's class, in versions 1 and 2 behind its version. `space` is the data
// set's.
ChunkedLayout read_chunks(File& file, Cursor body, unsigned version, const Dataspace& space, bool filtered);

}  // namespace tenon::formats::hdf5
