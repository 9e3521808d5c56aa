// Where messages of the library go: a sink that the application installs. Without one they are dropped.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace fr {

enum class LogLevel { debug = 0, info = 1, warning = 2 };
using LogSink = std::function<void(LogLevel, std::string_view)>;

// Process wide; safe to call from any thread. An empty function removes the sink.
void set_log_sink(LogSink sink);
void log(LogLevel level, std::string_view message);

// Told about a long step: 0 <= done <= total (bytes). Return false to stop the step (ErrorCode::interrupted).
using Progress = std::function<bool(std::string_view step, std::uint64_t done, std::uint64_t total)>;

}  // namespace fr
