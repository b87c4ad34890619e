#include "pages.h"

#include <cstdlib>
#include <new>

#include "kernels.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace apportion {

namespace {

constexpr size_t kCacheLine = 64;

uint8_t* allocate(size_t alignment, size_t nbytes) {
#if defined(_WIN32)
  void* memory = _aligned_malloc(nbytes, alignment);
#else
  void* memory = std::aligned_alloc(alignment, nbytes);
#endif
  if (!memory) throw std::bad_alloc();
  return static_cast<uint8_t*>(memory);
}

}  // namespace

void FreePages::operator()(uint8_t* p) const {
#if defined(_WIN32)
  _aligned_free(p);
#else
  std::free(p);
#endif
}

Pages allocate_pages(size_t nbytes) {
  if (nbytes < kHugePage) return Pages(allocate(kCacheLine, round_up(nbytes + 1, kCacheLine)));
  const size_t rounded = round_up(nbytes, kHugePage);
  Pages pages(allocate(kHugePage, rounded));
#if defined(__linux__)
  madvise(pages.get(), rounded, MADV_HUGEPAGE);  // a system without them reads from small pages
#endif
  return pages;
}

}  // namespace apportion
