// Sampler parameters: defaults of the profiles, names, validation.
#include <array>
#include <charconv>
#include <cmath>
#include <string>

#include "sample/sampler.h"

namespace fr {
namespace {

constexpr std::array<std::string_view, 3> profile_names = {"rwkv", "albatross", "ai00"};
constexpr double largest = 10000;  // of penalties and biases: far beyond use, and logits stay finite

std::string number(double value) {  // independent of the locale
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}

Status in_range(std::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return usage_error(std::string(name) + " is " + number(value) + " (sampler): give a number from " +
                     number(low) + " to " + number(high));
}

Status known_id(std::string_view name, int id, int vocab_size) {
  if (id >= 0 && id < vocab_size) return {};
  return usage_error(std::string(name) + " has token " + std::to_string(id) +
                     " (sampler): give ids from 0 to " + std::to_string(vocab_size - 1));
}

}  // namespace

SamplerParams default_params(SamplerProfile profile) {
  SamplerParams p;
  p.profile = profile;
  if (profile == SamplerProfile::albatross) {
    p.top_k = 500;
    p.top_p = 0.5;
    p.presence_penalty = 1.0;
    p.frequency_penalty = 0.1;
    p.penalty_decay = 0.99;
  } else if (profile == SamplerProfile::ai00) {
    p.top_k = 128;
    p.top_p = 0.5;
    p.presence_penalty = 0.3;
    p.frequency_penalty = 0.3;
    p.penalty_decay = 0.99654026;
  }
  return p;
}

std::string_view profile_name(SamplerProfile profile) {
  return profile_names[static_cast<std::size_t>(profile)];
}

Result<SamplerProfile> parse_profile(std::string_view name) {
  for (std::size_t i = 0; i < profile_names.size(); ++i)
    if (profile_names[i] == name) return static_cast<SamplerProfile>(i);
  return usage_error("unknown sampler \"" + std::string(name) + "\" (sampler): use rwkv, albatross or ai00");
}

Status validate(const SamplerParams& p, int vocab_size) {
  if (!(p.temperature >= 0) || std::isinf(p.temperature))
    return usage_error("temperature is " + number(p.temperature) +
                       " (sampler): give 0 for greedy or a number above it, usually 0.1 to 2");
  if (p.top_k < 0)
    return usage_error("top_k is " + std::to_string(p.top_k) +
                       " (sampler): give a count of tokens, or 0 for off");
  FR_OK(in_range("top_p", p.top_p, 0, 1));
  FR_OK(in_range("min_p", p.min_p, 0, 1));
  FR_OK(in_range("typical_p", p.typical_p, 0, 1));
  FR_OK(in_range("presence_penalty", p.presence_penalty, -largest, largest));
  FR_OK(in_range("frequency_penalty", p.frequency_penalty, -largest, largest));
  FR_OK(in_range("penalty_decay", p.penalty_decay, 0, 1));
  for (const auto& [id, bias] : p.logit_bias) {
    FR_OK(known_id("logit_bias", id, vocab_size));
    FR_OK(in_range("logit_bias of token " + std::to_string(id), bias, -largest, largest));
  }
  for (const int id : p.banned) FR_OK(known_id("banned", id, vocab_size));
  for (const int id : p.penalty_exempt) FR_OK(known_id("penalty_exempt", id, vocab_size));
  return {};
}

bool rwkv_penalty_exempt(std::string_view token_text) {
  return std::string_view(" \t0123456789").find(token_text) != std::string_view::npos;
}

}  // namespace fr
