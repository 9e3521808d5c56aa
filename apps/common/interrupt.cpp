#include "common/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <initializer_list>

namespace fr::app {
namespace {

// The handler may run on any thread, so a waiting main thread is woken through a pipe.
volatile std::sig_atomic_t interrupt_flag = 0;
int wake_pipe[2] = {-1, -1};

extern "C" void on_signal(int signal) {
  const int saved = errno;
  if (signal == SIGINT) {
    if (interrupt_flag) ::_exit(130);
    interrupt_flag = 1;
  }
  const char byte = 0;
  [[maybe_unused]] const auto ignored = ::write(wake_pipe[1], &byte, 1);
  errno = saved;
}

void drain() {
  char buffer[64];
  while (::read(wake_pipe[0], buffer, sizeof buffer) > 0) {
  }
}

}  // namespace

void catch_interrupts() {
  // A closed standard stream would become whatever is opened next. Opened the wrong way round, its use is an
  // error as before.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0) [[maybe_unused]]
      const int null_device = ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond the size limit is an error of the write
  if (wake_pipe[0] >= 0 || ::pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0) return;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGWINCH, SIGCONT}) {
    struct sigaction old {};
    ::sigaction(signal, nullptr, &old);
    if (old.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);  // nohup and the like stay in force
  }
}

bool interrupted() { return interrupt_flag != 0; }

void clear_interrupt() { interrupt_flag = 0; }

Wake wait_for_input(int fd) {
  for (;;) {
    if (interrupted()) {
      drain();
      return Wake::interrupt;
    }
    pollfd fds[] = {{fd, POLLIN, 0}, {wake_pipe[0], POLLIN, 0}};
    const int n = ::poll(fds, 2, -1);
    if (n < 0) {
      if (errno == EINTR) continue;
      return Wake::input;  // let the read report what is wrong
    }
    if (fds[1].revents != 0) {
      drain();
      return interrupted() ? Wake::interrupt : Wake::screen_changed;
    }
    if (fds[0].revents != 0) return Wake::input;
  }
}

}  // namespace fr::app
