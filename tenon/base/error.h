// Errors: what the library throws.
//
// A mistake of the user is a tenon::Error of a kind below; its text reads
//
//   WHERE: PROBLEM; expected EXPECTED, got GOT
//     try: HINT
//
// and the parts stay readable on their own. A mistake of the library is an InternalError, which is
// deliberately not a tenon::Error: nobody should catch it by accident.
// To add a kind: one line at the end of this file.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tenon {

// The parts of an error text. Empty parts are left out of what().
struct ErrorParts {
  std::string where{};     // the op, layer, option or file that complains: "add", "weights.npy"
  std::string problem{};   // what is wrong, in lower case, without a full stop
  std::string expected{};  // what would have been right
  std::string got{};       // what came
  std::string hint{};      // the line to write instead
};

class Error : public std::runtime_error {
 public:
  explicit Error(ErrorParts parts);
  [[nodiscard]] const ErrorParts& parts() const { return parts_; }

 private:
  ErrorParts parts_;
};

// An invariant of Tenon itself is broken: please report it.
class InternalError : public std::logic_error {
 public:
  explicit InternalError(std::string_view what);
};

// clang-format off
struct ShapeError final : Error { using Error::Error; };        // shapes do not fit together
struct DTypeError final : Error { using Error::Error; };        // an element type is not accepted
struct IndexError final : Error { using Error::Error; };        // an index or axis out of range
struct ValueError final : Error { using Error::Error; };        // an argument's value is not accepted
struct GradientError final : Error { using Error::Error; };     // a derivative that does not exist
struct UnsupportedError final : Error { using Error::Error; };  // understood, but not to be had here
struct FileError final : Error { using Error::Error; };         // the system refused: open, read, write
struct FormatError final : Error { using Error::Error; };       // a file's bytes break its format; `where` is the path, the problem names the byte offset
struct NumericError final : Error { using Error::Error; };      // NaN or infinity found, singular matrix
struct MemoryError final : Error { using Error::Error; };       // the system has no more memory
struct CancelledError final : Error { using Error::Error; };    // the user interrupted
// clang-format on

}  // namespace tenon
