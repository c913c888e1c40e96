// train::Model: a network with everything that training it needs, in the manner of Keras.
//
//   auto model = train::Model(nn::Sequential(nn::Flatten(), nn::Dense(784, 10)));
//   model.compile({.optimizer = optim::Adam{}, .loss = nn::CrossEntropyLoss{}, .metrics = {"accuracy"}});
//   model.fit(dataset, {.epochs = 10});
//
// The network is any value that is called with a Tensor and gives one, and whose Variables nn::visit finds.
// network() is that value: everything else that one does with a network is done there.
#pragma once

#include <memory>
#include <utility>

#include "tenon/train/trainer.h"

namespace tenon::train {

// What the fit loop needs of a network.
template <class Net>
Network network_of(const std::shared_ptr<Net>& network) {
  return {.forward = [network](const Tensor& input) { return (*network)(input); },
          .parameters = [network] { return nn::parameters(*network); },
          .state = [network] { return nn::state_dict(*network); },
          .load = [network](const StateDict& dict) { nn::load_state_dict(*network, dict); },
          .set_training = [network](bool training) { nn::train(*network, training); }};
}

template <class Net>
class Model : public Trainer {
 public:
  explicit Model(Net network) : Model(std::make_shared<Net>(std::move(network))) {}

  [[nodiscard]] const Net& network() const { return *network_; }
  Tensor operator()(const Tensor& input) const { return (*network_)(input); }

 private:
  explicit Model(std::shared_ptr<Net> network) : Trainer(network_of(network)), network_(std::move(network)) {}

  std::shared_ptr<Net> network_;
};

}  // namespace tenon::train
