// Variable: a named cell that holds a Tensor. The one type with state.
//
// Parameters, running statistics, optimiser state, KV caches and generator state are Variables. A copy is
// another handle of the same cell, so two layers share a weight by holding the same Variable; clone() makes
// a new cell. Used where a Tensor is expected, a Variable gives its present value, and if it is trainable,
// gradients flow back into its `grad()`.
#pragma once

#include <memory>
#include <string>

#include "tenon/tensor/tensor.h"

namespace tenon {

struct VariableCell {
  Tensor value;      // carries `leaf` if trainable
  TensorType type;   // of the value; stays when the value is taken out
  Tensor grad;       // undefined until a backward pass reaches it
  std::string name;  // dotted path within a model, for messages; set by nn
  bool trainable = true;
  Ref<TapeLink> leaf;
};

// The end of the tape at a Variable: gradients that arrive here belong to its cell.
class VariableLeaf final : public TapeLink {
 public:
  explicit VariableLeaf(std::weak_ptr<VariableCell> owner) : cell(std::move(owner)) {}
  std::weak_ptr<VariableCell> cell;
};

class Variable {
 public:
  // A cell without value; `defined()` is false.
  Variable() = default;
  explicit Variable(Tensor value, bool trainable = true, std::string name = {});

  [[nodiscard]] bool defined() const { return static_cast<bool>(cell_); }
  // The value as a leaf of the tape (if trainable). Errors: ValueError if it has been taken or was never given.
  [[nodiscard]] Tensor value() const;
  operator Tensor() const { return value(); }  // NOLINT(google-explicit-constructor): a Variable reads as its value
  // Rebinds the cell; the new value's own history is dropped, gradients stop at the cell. Errors:
  // ShapeError/DTypeError if the type differs from the present value's.
  void set(Tensor value);
  // Moves the value out, leaving the cell empty until set(): an update can then reuse its buffer.
  [[nodiscard]] Tensor take();
  // These, and whatever else asks for the cell: ValueError if there is none.
  [[nodiscard]] const TensorType& type() const { return body().type; }
  [[nodiscard]] const Shape& shape() const { return type().shape; }
  [[nodiscard]] DType dtype() const { return type().dtype; }

  [[nodiscard]] const Tensor& grad() const { return body().grad; }
  void set_grad(Tensor grad) { body().grad = std::move(grad); }
  void zero_grad() { body().grad = Tensor(); }
  [[nodiscard]] bool trainable() const { return cell_ && cell_->trainable; }
  void set_trainable(bool trainable);
  [[nodiscard]] const std::string& name() const { return body().name; }
  void set_name(std::string name) { body().name = std::move(name); }

  // A new cell with the same value.
  [[nodiscard]] Variable clone() const;
  // Same cell?
  bool operator==(const Variable& o) const { return cell_ == o.cell_; }
  [[nodiscard]] const std::shared_ptr<VariableCell>& cell() const { return cell_; }

 private:
  [[nodiscard]] VariableCell& body() const {
    if (!cell_) [[unlikely]]
      throw_undefined();
    return *cell_;
  }
  [[noreturn, gnu::cold]] static void throw_undefined();

  std::shared_ptr<VariableCell> cell_;
};

}  // namespace tenon
