// Ctrl-C as a flag that long steps look at, and terminal signals as something to wait for beside input.
#pragma once

namespace fr::app {

// From now on Ctrl-C (SIGINT) sets a flag. A second one before the flag was cleared ends the program with
// status 130: the way out when nobody looks.
void catch_interrupts();
bool interrupted();
void clear_interrupt();

enum class Wake { input, interrupt, screen_changed };
// Waits until fd can be read, or Ctrl-C came, or the terminal was resized or the program was continued after
// Ctrl-Z.
Wake wait_for_input(int fd);

}  // namespace fr::app
