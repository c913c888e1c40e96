// B-trees, both versions: groups and the places of chunks are found through them. A tree is walked from its root to
// every leaf once; a node that comes twice is an error, so no walk is longer than the file.
#pragma once

#include <functional>

#include "tenon/formats/hdf5/bytes.h"

namespace tenon::formats::hdf5 {

// Version 1. `leaf(key, child)` is called for every entry of a node of level 0.
enum class OldTree : std::uint8_t { Group = 0, Chunks = 1 };
struct OldTreeShape {
  OldTree kind;
  std::uint64_t key_size;
};
void walk_old_tree(File& file, std::uint64_t root, OldTreeShape shape,
                   const std::function<void(Cursor key, std::uint64_t child)>& leaf);

// Version 2. `visit(record)` is called for every record, of which there is one type in a tree.
void walk_new_tree(File& file, std::uint64_t header, std::uint8_t type,
                   const std::function<void(Cursor record)>& visit);

}  // namespace tenon::formats::hdf5
