#include "common/settings.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <random>

#include "common/words.h"

namespace fr::app {
namespace {

using faster_rwkv::Error;

std::optional<double> read_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

template <class Int>
std::optional<Int> read_int(std::string_view text) {
  Int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

[[noreturn]] void bad_value(std::string_view name, std::string_view value, const char* wanted) {
  throw Error(FR_ERROR_USAGE, std::string("'")
                                  .append(value)
                                  .append("' is not ")
                                  .append(wanted)
                                  .append(" (")
                                  .append(name)
                                  .append(")"));
}

struct NumberSetting {
  std::string_view name;
  double fr_sampler_params::*field;
};
constexpr NumberSetting number_settings[] = {
    {"temperature", &fr_sampler_params::temperature},
    {"top_p", &fr_sampler_params::top_p},
    {"min_p", &fr_sampler_params::min_p},
    {"typical_p", &fr_sampler_params::typical_p},
    {"presence_penalty", &fr_sampler_params::presence_penalty},
    {"frequency_penalty", &fr_sampler_params::frequency_penalty},
    {"penalty_decay", &fr_sampler_params::penalty_decay},
};

std::string number(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%g", value);
  return out;
}

}  // namespace

fr_sampler_params Settings::sampler_params(std::uint64_t seed_in_use) const {
  fr_sampler_params p = params;
  p.profile = sampler.c_str();
  p.seed = seed_in_use;
  p.logit_bias = logit_bias.data();
  p.n_logit_bias = logit_bias.size();
  p.banned = banned.data();
  p.n_banned = banned.size();
  return p;
}

fr_generate_options Settings::generate_options(std::vector<const char*>& stop_pointers) const {
  stop_pointers.clear();
  for (const std::string& s : stops) stop_pointers.push_back(s.c_str());
  fr_generate_options options = fr_generate_options_default();
  options.max_tokens = max_tokens;
  options.stops = stop_pointers.data();
  options.n_stops = stop_pointers.size();
  return options;
}

bool Settings::set(std::string_view given, std::string_view value) {
  std::string name = lower(given);
  std::replace(name.begin(), name.end(), '-', '_');
  if (name == "temp") name = "temperature";
  if (name == "typical") name = "typical_p";
  for (const NumberSetting& s : number_settings) {
    if (s.name != name) continue;
    const auto v = read_number(value);
    if (!v) bad_value(name, value, "a number");
    params.*s.field = *v;
    return true;
  }
  if (name == "top_k" || name == "max_tokens") {
    const auto v = read_int<int>(value);
    if (!v) bad_value(name, value, "a whole number");
    (name == "top_k" ? params.top_k : max_tokens) = *v;
    return true;
  }
  if (name == "seed") {
    seed = parse_seed(value);
  } else if (name == "sampler") {
    const std::string profile(value);
    faster_rwkv::check(fr_sampler_params_for(profile.c_str(), &params));
    sampler = profile;
  } else {
    return false;
  }
  return true;
}

std::vector<NamedValue> list_settings(const Settings& settings) {
  std::vector<NamedValue> out;
  for (const NumberSetting& s : number_settings) out.push_back({s.name, number(settings.params.*s.field)});
  out.push_back({"top_k", std::to_string(settings.params.top_k)});
  out.push_back({"sampler", settings.sampler});
  out.push_back({"seed", settings.seed ? std::to_string(*settings.seed) : "random"});
  out.push_back({"max_tokens", std::to_string(settings.max_tokens)});
  return out;
}

std::uint64_t random_seed() {
  std::random_device device;
  return ((std::uint64_t{device()} << 32) | device()) >> 11;  // 53 bits: exact in every JSON reader
}

std::optional<std::uint64_t> parse_seed(std::string_view text) {
  if (text == "random" || text == "-1") return std::nullopt;
  const auto v = read_int<std::uint64_t>(text);
  if (!v) bad_value("seed", text, "a number from 0 to 2^64-1, or 'random'");
  return v;
}

void add_logit_bias(std::string_view text, Settings& settings) {
  const std::size_t sign = text.find_first_of("+-=");
  if (sign != std::string_view::npos) {
    const auto id = read_int<std::int32_t>(text.substr(0, sign));
    const auto bias = read_number(text.substr(text[sign] == '-' ? sign : sign + 1));
    if (id && bias) {
      if (*bias == -std::numeric_limits<double>::infinity())
        settings.banned.push_back(*id);
      else
        settings.logit_bias.push_back({*id, static_cast<float>(*bias)});
      return;
    }
  }
  bad_value("logit-bias", text, "a token id and its bias, like 123+1.5, 123-2 or 123=-inf");
}

bool parse_switch(std::string_view name, std::string_view value) {
  const std::string v = lower(value);
  for (const std::string_view yes : {"on", "true", "yes", "1"}) {
    if (v == yes) return true;
  }
  for (const std::string_view no : {"off", "false", "no", "0"}) {
    if (v == no) return false;
  }
  bad_value(name, value, "on or off");
}

void take_inline_settings(std::string& message, Settings& settings) {
  for (const std::string_view name : {"temp", "top_p"}) {
    const std::string mark = std::string("-").append(name).append("=");
    const std::size_t at = message.find(mark);
    if (at == std::string::npos || (at > 0 && message[at - 1] != ' ' && message[at - 1] != '\n')) continue;
    const std::size_t end = std::min(message.find_first_of(" \n", at), message.size());
    const std::string value = message.substr(at + mark.size(), end - at - mark.size());
    if (!read_number(value)) continue;  // not ours: a message may talk about such options
    settings.set(name, value);
    message.erase(at, end - at);
  }
  message = trim(message);
}

}  // namespace fr::app
