// How fast memory can be read.
#pragma once

#include <cstddef>

namespace apportion {

// Bytes a second of the best of `repeats` passes over a fresh buffer of `nbytes`, read by `threads` threads.
double stream_bandwidth(size_t nbytes, unsigned threads, unsigned repeats);

}  // namespace apportion
