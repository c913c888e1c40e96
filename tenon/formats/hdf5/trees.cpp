#include "tenon/formats/hdf5/trees.h"

#include <fmt/format.h>

#include <set>
#include <vector>

namespace tenon::formats::hdf5 {
namespace {

// No address twice, in one tree.
class Visited {
 public:
  explicit Visited(File& file) : file_(file) {}
  void enter(std::uint64_t address) {
    if (!seen_.insert(address).second) file_.fail(address, "a tree comes to the same node twice");
  }

 private:
  File& file_;
  std::set<std::uint64_t> seen_;
};

constexpr unsigned kDeepest = 40;

// The numbers of a version 2 tree that decide how its nodes are laid out.
class NewTree {
 public:
  NewTree(File& file, std::uint64_t header, std::uint8_t type, const std::function<void(Cursor)>& visit)
      : file_(file), type_(type), visit_(visit), visited_(file) {
    Cursor cursor = file.cursor_from(header, "a B-tree");
    cursor.signature("BTHD");
    cursor.version(0);
    if (const unsigned got = cursor.u8(); got != type)
      cursor.fail("a B-tree holds other records than it should", fmt::format("type {}", type), fmt::format("{}", got));
    node_size_ = cursor.u32();
    record_size_ = cursor.u16();
    depth_ = cursor.u16();
    cursor.skip(2);
    root_ = cursor.offset();
    root_records_ = cursor.u16();
    (void)cursor.length();
    file.verify_checksum(cursor, header);
    if (record_size_ == 0 || node_size_ < kNodePrefix + record_size_ || depth_ > kDeepest)
      file.fail(header, "the numbers of a B-tree do not fit together");
    // Numbers of records take as many bytes as the largest possible one.
    std::uint64_t most = (node_size_ - kNodePrefix) / record_size_, all = most;
    counts_.push_back({bytes_for(most), 0});
    for (unsigned level = 1; level <= depth_; ++level) {
      const std::uint64_t pointer = file.offset_size() + counts_.back().own + counts_.back().all;
      if (node_size_ < kNodePrefix + pointer) file.fail(header, "the numbers of a B-tree do not fit together");
      most = (node_size_ - kNodePrefix - pointer) / (record_size_ + pointer);
      if (__builtin_mul_overflow(most + 1, all, &all) || __builtin_add_overflow(all, most, &all) || most == 0)
        file.fail(header, "the numbers of a B-tree do not fit together");
      counts_.push_back({bytes_for(most), bytes_for(all)});
    }
  }

  void walk() {
    if (root_records_ > 0 && file_.defined(root_)) node(root_, root_records_, depth_);
  }

 private:
  static constexpr std::uint64_t kNodePrefix = 10;  // signature, version, type, checksum
  struct Counts {
    unsigned own, all;  // bytes of a node's count of records, and of the count of all below it (0: not stored)
  };
  struct Child {
    std::uint64_t address, records;
  };

  void node(std::uint64_t address, std::uint64_t records, unsigned level) {
    visited_.enter(address);
    std::uint64_t size = 6 + records * record_size_;
    const Counts below = level > 0 ? counts_[level - 1] : Counts{0, 0};
    if (level > 0) size += (records + 1) * (file_.offset_size() + below.own + below.all);
    if (size + 4 > node_size_) file_.fail(address, "a node of a B-tree has more records than room");
    Cursor cursor = file_.cursor(address, size + 4, "a node of a B-tree");
    cursor.signature(level > 0 ? "BTIN" : "BTLF");
    cursor.version(0);
    if (cursor.u8() != type_) cursor.fail("a node of a B-tree belongs to another tree");
    for (std::uint64_t i = 0; i < records; ++i) visit_(cursor.sub(record_size_));
    std::vector<Child> children;
    for (std::uint64_t i = 0; level > 0 && i <= records; ++i) {
      const std::uint64_t child = cursor.offset(), count = cursor.number(below.own);
      cursor.skip(below.all);
      children.push_back({child, count});
    }
    file_.verify_checksum(cursor, address);
    for (const Child& child : children) node(child.address, child.records, level - 1);
  }

  File& file_;
  std::uint8_t type_;
  const std::function<void(Cursor)>& visit_;
  Visited visited_;
  std::uint64_t node_size_ = 0, record_size_ = 0, root_ = 0, root_records_ = 0;
  unsigned depth_ = 0;
  std::vector<Counts> counts_;
};

void walk_old_node(File& file, std::uint64_t address, OldTreeShape shape, Visited& visited, unsigned above,
                   const std::function<void(Cursor, std::uint64_t)>& leaf) {
  visited.enter(address);
  Cursor head = file.cursor_from(address, "a node of a B-tree");
  head.signature("TREE");
  if (const unsigned kind = head.u8(); kind != static_cast<unsigned>(shape.kind))
    head.fail("a node of a B-tree is of another kind", fmt::format("{}", static_cast<unsigned>(shape.kind)),
              fmt::format("{}", kind));
  const unsigned level = head.u8();
  if (level >= above || level > kDeepest) head.fail("the levels of a B-tree do not go down");
  const std::uint64_t entries = head.u16();
  head.skip(2 * std::uint64_t{file.offset_size()});
  // A key before each child, and one after the last.
  Cursor body = file.cursor(head.address(), entries * (shape.key_size + file.offset_size()), "a node of a B-tree");
  for (std::uint64_t i = 0; i < entries; ++i) {
    const Cursor key = body.sub(shape.key_size);
    const std::uint64_t child = body.offset();
    if (level == 0) {
      leaf(key, child);
    } else {
      walk_old_node(file, child, shape, visited, level, leaf);
    }
  }
}

}  // namespace

void walk_old_tree(File& file, std::uint64_t root, OldTreeShape shape,
                   const std::function<void(Cursor, std::uint64_t)>& leaf) {
  Visited visited(file);
  walk_old_node(file, root, shape, visited, 256, leaf);
}

void walk_new_tree(File& file, std::uint64_t header, std::uint8_t type, const std::function<void(Cursor)>& visit) {
  NewTree(file, header, type, visit).walk();
}

}  // namespace tenon::formats::hdf5
