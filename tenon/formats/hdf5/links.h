// The links of a group, in all the ways in which the format keeps them: an old group's tree and heap, messages in the
// object header, or a fractal heap when there are many. Soft and external links are passed over.
#pragma once

#include <string>
#include <vector>

#include "tenon/formats/hdf5/object_header.h"

namespace tenon::formats::hdf5 {

struct Link {
  std::string name;
  std::uint64_t address = 0;  // of the object header
};

// Empty for what is not a group. By name.
std::vector<Link> read_links(File& file, const ObjectHeader& header);

}  // namespace tenon::formats::hdf5
