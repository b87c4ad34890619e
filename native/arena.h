// Where the buffers of a program lie in memory, so that those whose lives do not overlap share it.
#pragma once

#include <cstddef>
#include <span>

namespace apportion {

// A buffer of `width` numbers per token. It lives from step `first` through step `last`, both included.
struct Lifetime {
  size_t width;
  size_t first, last;
  size_t offset = 0;  // found by place_buffers, in numbers per token
};

// Gives each buffer its offset; returns how many numbers per token they need together. Offsets are multiples of 16, so
// that whatever the number of tokens is, buffers start at cache lines:
//
//   steps       0    1    2    3                      step 1: a and b live, c does not yet
//   offset 0    [ a ........ ][ c ]
//   offset 64        [ b ][ d ... ]
size_t place_buffers(std::span<Lifetime> buffers);

}  // namespace apportion
