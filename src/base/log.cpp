#include "base/log.h"

#include <mutex>

namespace fr {
namespace {
std::mutex mutex;
LogSink sink_;  // guarded by mutex
}  // namespace

void set_log_sink(LogSink sink) {
  const std::lock_guard lock(mutex);
  sink_ = std::move(sink);
}

void log(LogLevel level, std::string_view message) {
  LogSink sink;
  {
    const std::lock_guard lock(mutex);
    sink = sink_;
  }
  if (sink) sink(level, message);
}

}  // namespace fr
