// How replies are drawn: the values behind the command line's sampling options and the chat's /set.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "faster_rwkv/fr.hpp"

namespace fr::app {

struct Settings {
  fr_sampler_params params = fr_sampler_params_default();  // profile, seed and the lists are taken from below
  std::string sampler = params.profile;
  std::optional<std::uint64_t> seed;  // none: a random one
  std::vector<fr_logit_bias> logit_bias;
  std::vector<std::int32_t> banned;
  std::vector<std::string> stops;
  int max_tokens = 0;  // < 0: no limit

  // Valid as long as this object and unchanged.
  fr_sampler_params sampler_params(std::uint64_t seed_in_use) const;
  // `stops` receives the C strings that the options point to.
  fr_generate_options generate_options(std::vector<const char*>& stop_pointers) const;

  // name as on the command line, with - or _ ("top_p"), temp and typical for short. False: there is no such
  // setting. Throws faster_rwkv::Error when the value cannot be read; ranges are checked by the sampler.
  bool set(std::string_view name, std::string_view value);
};

// The names that Settings::set knows, and their values now.
struct NamedValue {
  std::string_view name;
  std::string value;
};
std::vector<NamedValue> list_settings(const Settings& settings);

std::uint64_t random_seed();
// "random" or -1: none. Throws.
std::optional<std::uint64_t> parse_seed(std::string_view text);
// "123+1.5", "123-2"; "123=-inf" bans the token. Throws.
void add_logit_bias(std::string_view text, Settings& settings);
bool parse_switch(std::string_view name, std::string_view value);  // on/off, true/false, yes/no, 1/0. Throws.

// ChatRWKV's way to set something for one message: the words "-temp=0.8" and "-top_p=0.5" are taken out of
// the message and into the settings.
void take_inline_settings(std::string& message, Settings& settings);

}  // namespace fr::app
