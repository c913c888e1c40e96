#include "tenon/tensor/variable.h"

#include "tenon/base/error.h"

namespace tenon {
namespace {

// The same value without its history, and no longer weak: a cell's dtype is fixed.
Tensor settle(Tensor value) {
  TensorImpl* impl = value.impl();
  if (impl->weak) return strengthen(value);
  if (!impl->tape) return value;
  if (value.unique()) {
    impl->tape = nullptr;
    return value;
  }
  auto copy = make_ref<TensorImpl>();
  copy->type = impl->type;
  copy->strides = impl->strides;
  copy->offset = impl->offset;
  copy->buffer = impl->buffer;
  copy->placeholder = impl->placeholder;
  return Tensor(std::move(copy));
}

void require_value(const Tensor& value, const std::string& name) {
  if (value.defined()) return;
  throw ValueError({.where = name.empty() ? "Variable" : name, .problem = "a variable needs a defined tensor"});
}

}  // namespace

Variable::Variable(Tensor value, bool trainable, std::string name) : cell_(std::make_shared<VariableCell>()) {
  require_value(value, name);
  cell_->value = settle(std::move(value));
  cell_->type = cell_->value.type();
  cell_->trainable = trainable;
  cell_->name = std::move(name);
}

void Variable::set(Tensor value) {
  const std::string where = name().empty() ? "Variable::set" : name();
  require_value(value, where);
  if (value.impl()->weak) value = strengthen(value, dtype());
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
  cell_->value = settle(std::move(value));
}

Tensor Variable::take() { return std::exchange(cell_->value, Tensor()); }

Variable Variable::clone() const { return Variable(cell_->value, cell_->trainable, cell_->name); }

}  // namespace tenon
