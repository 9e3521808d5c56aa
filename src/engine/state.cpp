// Slots of the engine and the State objects that own them.
#include <algorithm>

#include "engine/engine.h"

namespace fr {

Result<int> Engine::acquire_slot() {
  const std::lock_guard lock(mutex_);
  if (free_slots_.empty()) {
    if (max_states_ > 0 && n_slots_ >= max_states_) {
      return runtime_error("all " + std::to_string(max_states_) +
                           " states are in use (max_states): free one, or allow more");
    }
    for (const auto& device : devices_) FR_OK(device->reserve_slots(n_slots_ + 1));
    free_slots_.push_back(n_slots_++);
  }
  const int slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void Engine::release_slot(int slot) {
  const std::lock_guard lock(mutex_);
  free_slots_.push_back(slot);
}

void Engine::reset_slot(int slot) {
  if (!initial_state_.empty()) return import_slot(slot, initial_state_);
  const std::lock_guard lock(mutex_);
  for (const auto& device : devices_) device->reset_slot(slot);
}

void Engine::copy_slot(int from, int to) {
  const std::lock_guard lock(mutex_);
  for (const auto& device : devices_) device->copy_slot(from, to);
}

void Engine::export_slot(int slot, std::span<float> out) const {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    const auto begin = static_cast<std::size_t>(state_offsets_[i]),
               end = static_cast<std::size_t>(state_offsets_[i + 1]);
    devices_[i]->export_slot(slot, out.subspan(begin, end - begin));
  }
}

void Engine::import_slot(int slot, std::span<const float> in) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    const auto begin = static_cast<std::size_t>(state_offsets_[i]),
               end = static_cast<std::size_t>(state_offsets_[i + 1]);
    devices_[i]->import_slot(slot, in.subspan(begin, end - begin));
  }
}

Result<State> State::make(std::shared_ptr<Engine> engine) {
  FR_TRY(const int slot, engine->acquire_slot());
  State state(std::move(engine), slot);
  state.reset();
  return state;
}

State::State(State&& other) noexcept
    : engine_(std::move(other.engine_)),
      slot_(std::exchange(other.slot_, -1)),
      tokens_seen_(other.tokens_seen_) {}

State& State::operator=(State&& other) noexcept {
  std::swap(engine_, other.engine_);
  std::swap(slot_, other.slot_);
  std::swap(tokens_seen_, other.tokens_seen_);
  return *this;
}

State::~State() {
  if (engine_ && slot_ >= 0) engine_->release_slot(slot_);
}

Result<State> State::clone() const {
  FR_TRY(State copy, make(engine_));
  copy.copy_from(*this);
  return copy;
}

void State::copy_from(const State& other) {
  FR_CHECK(engine_ == other.engine_);
  if (slot_ == other.slot_) return;
  engine_->copy_slot(other.slot_, slot_);
  tokens_seen_ = other.tokens_seen_;
}

void State::reset() {
  engine_->reset_slot(slot_);
  tokens_seen_ = 0;
}

std::vector<float> State::values() const {
  std::vector<float> v(static_cast<std::size_t>(engine_->state_spec().size));
  engine_->export_slot(slot_, v);
  return v;
}

void State::set_values(std::span<const float> values, std::uint64_t tokens_seen) {
  FR_CHECK(values.size() == static_cast<std::size_t>(engine_->state_spec().size));
  engine_->import_slot(slot_, values);
  tokens_seen_ = tokens_seen;
}

}  // namespace fr
