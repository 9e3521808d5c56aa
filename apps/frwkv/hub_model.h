// Models of a Hugging Face hub for the commands: errors as exceptions, progress on the terminal.
#pragma once
#include <string>

#include "faster_rwkv/fr.hpp"
#include "tools_core/hub.h"

namespace fr::app {

// The value of a Result; throws faster_rwkv::Error.
template <class T>
T checked(Result<T> result) {
  if (!result.ok())
    throw faster_rwkv::Error(static_cast<fr_code>(result.error().code), result.error().message);
  return std::move(*result);
}

HubSettings hub_settings(bool offline);  // of the environment; throws faster_rwkv::Error

// fr::pull with a progress bar; Ctrl-C stops it, and a line says how to go on. Throws faster_rwkv::Error.
HubModel download(const HubName& name, HubSettings settings);

// MODEL as the user gave it -> a path. "hf:REPO:FILE" and the like are taken from the cache or, unless
// offline, downloaded; everything else is a path already. Throws faster_rwkv::Error.
std::string model_path(const std::string& model, bool offline);

}  // namespace fr::app
