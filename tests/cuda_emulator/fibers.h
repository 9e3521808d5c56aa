// The threads of one block as fibers of the calling thread.
#pragma once
#include <cstddef>
#include <functional>

namespace cuda_emulator {

// Runs `body` once as each of `count` fibers; a fiber runs until it waits, then the next one that can: of its
// own group of `group` neighbours if there is one.
void run_fibers(std::size_t count, std::size_t group, const std::function<void(std::size_t)>& body);

// For the fiber that runs: lets others run until `ready` holds. If no fiber can go on the process ends with
// `what`.
void wait_until(const std::function<bool()>& ready, const char* what);

}  // namespace cuda_emulator
