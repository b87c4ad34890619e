// Memory in huge pages, where the system gives them: what is streamed through then waits less for addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace apportion {

inline constexpr size_t kHugePage = 2 << 20;

struct FreePages {
  void operator()(uint8_t* p) const;
};
using Pages = std::unique_ptr<uint8_t[], FreePages>;

// Uninitialized; aligned to 64 bytes, from kHugePage on to huge pages. Throws std::bad_alloc.
Pages allocate_pages(size_t nbytes);

}  // namespace apportion
