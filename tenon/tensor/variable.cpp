#include "tenon/tensor/variable.h"

#include "tenon/base/error.h"
#include "tenon/tensor/number.h"

namespace tenon {
namespace {

// The same value with `leaf` (or nothing) as its history, and no longer weak: a cell's dtype is fixed.
Tensor settle(Tensor value, const Ref<TapeLink>& leaf) {
  if (value.impl()->weak) value = strengthen(value);
  TensorImpl* impl = value.impl();
  if (impl->tape == leaf) return value;
  if (value.unique()) {
    impl->tape = leaf;
    impl->tape_output = 0;
    return value;
  }
  auto copy = make_ref<TensorImpl>();
  copy->type = impl->type;
  copy->strides = impl->strides;
  copy->offset = impl->offset;
  copy->buffer = impl->buffer;
  copy->stand_for(impl->placeholder);
  copy->tape = leaf;
  return Tensor(std::move(copy));
}

Ref<TapeLink> leaf_of(const VariableCell& cell) { return cell.trainable ? cell.leaf : nullptr; }

void require_value(const Tensor& value, const std::string& name) {
  if (value.defined()) return;
  throw ValueError({.where = name.empty() ? "Variable" : name, .problem = "a variable needs a defined tensor"});
}

}  // namespace

Variable::Variable(Tensor value, bool trainable, std::string name) : cell_(std::make_shared<VariableCell>()) {
  require_value(value, name);
  cell_->trainable = trainable;
  cell_->leaf = make_ref<VariableLeaf>(cell_);
  cell_->value = settle(std::move(value), leaf_of(*cell_));
  cell_->type = cell_->value.type();
  cell_->name = std::move(name);
}

void Variable::throw_undefined() {
  throw ValueError({.where = "Variable",
                    .problem = "the variable is undefined: it was default-constructed and has no cell",
                    .hint = "construct it from a tensor: Variable w(zeros({2, 3}))"});
}

void Variable::set(Tensor value) {
  const std::string where = name().empty() ? "Variable::set" : name();
  require_value(value, where);
  if (value.impl()->weak) {
    expect_number_fits(where, value, dtype());
    value = strengthen(value, dtype());
  }
  if (value.dtype() != dtype()) {
    throw DTypeError({.where = where,
                      .problem = "a variable keeps its dtype",
                      .expected = to_string(type()),
                      .got = to_string(value.type()),
                      .hint = "cast the new value to " + std::string(tenon::name(dtype()))});
  }
  if (value.shape() != shape()) {
    throw ShapeError({.where = where,
                      .problem = "a variable keeps its shape",
                      .expected = to_string(type()),
                      .got = to_string(value.type())});
  }
  cell_->value = settle(std::move(value), leaf_of(*cell_));
}

Tensor Variable::value() const {
  if (!cell_ || !cell_->value.defined())
    throw ValueError({.where = cell_ && !cell_->name.empty() ? cell_->name : "Variable",
                      .problem = "the variable has no value",
                      .hint = "construct it from a tensor; after take(), set() it before it is read"});
  return cell_->value;
}

void Variable::set_trainable(bool trainable) {
  body().trainable = trainable;
  if (cell_->value.defined()) cell_->value = settle(std::move(cell_->value), leaf_of(*cell_));
}

Tensor Variable::take() { return std::exchange(body().value, Tensor()); }

Variable Variable::clone() const {
  const VariableCell& cell = body();
  return Variable(cell.value, cell.trainable, cell.name);
}

}  // namespace tenon
