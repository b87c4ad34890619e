/* Loaded before libc (LD_PRELOAD): counts allocations while a watch is on, in four kinds.
 *
 *   0  by one library, whatever their size
 *   1  of 64 KiB and more by anyone else
 *   2  of exactly the size of a result, by anyone else: what the caller is given to keep
 *   3  smaller ones: Python's own objects
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LARGE (64u << 10)
#define KINDS 4
#define KEPT 8

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static uintptr_t library_begin, library_end;
static size_t result_nbytes;
static atomic_int watching;
static atomic_long counts[KINDS];
static size_t kept[2][KEPT][2]; /* of the first two kinds: where in the library, and how many bytes */

static void note(void *return_address, size_t nbytes) {
  if (!atomic_load_explicit(&watching, memory_order_relaxed)) return;
  uintptr_t caller = (uintptr_t)return_address;
  int in_library = caller >= library_begin && caller < library_end;
  int kind = in_library ? 0 : nbytes == result_nbytes ? 2 : nbytes >= LARGE ? 1 : 3;
  long place = atomic_fetch_add(&counts[kind], 1);
  if (kind < 2 && place < KEPT) {
    kept[kind][place][0] = in_library ? caller - library_begin : 0;
    kept[kind][place][1] = nbytes;
  }
}

#define NOTE(nbytes) note(__builtin_return_address(0), nbytes)

/* What the test calls. */
void watch(uintptr_t begin, uintptr_t end, size_t result) {
  library_begin = begin;
  library_end = end;
  result_nbytes = result;
  atomic_store(&watching, 1);
}

void stop_watching(void) { atomic_store(&watching, 0); }

long counted(int kind) { return atomic_load(&counts[kind]); }

size_t kept_of(int kind, int place, int what) { return kept[kind][place][what]; }

/* What programs call. */
void *malloc(size_t n) {
  NOTE(n);
  return __libc_malloc(n);
}

void *calloc(size_t count, size_t n) {
  NOTE(count * n);
  return __libc_calloc(count, n);
}

void *realloc(void *p, size_t n) {
  NOTE(n);
  return __libc_realloc(p, n);
}

void *memalign(size_t alignment, size_t n) {
  NOTE(n);
  return __libc_memalign(alignment, n);
}

void *aligned_alloc(size_t alignment, size_t n) {
  NOTE(n);
  return __libc_memalign(alignment, n);
}

int posix_memalign(void **p, size_t alignment, size_t n) {
  NOTE(n);
  *p = __libc_memalign(alignment, n);
  return *p ? 0 : ENOMEM;
}

void *mmap(void *where, size_t n, int protection, int flags, int file, off_t offset) {
  NOTE(n);
  return (void *)syscall(SYS_mmap, where, n, protection, flags, file, offset);
}

void *mmap64(void *where, size_t n, int protection, int flags, int file, off_t offset) {
  NOTE(n);
  return (void *)syscall(SYS_mmap, where, n, protection, flags, file, offset);
}

/* C++: operator new, new[] and their aligned kin, which would otherwise call malloc from another library. */
void *_Znwm(size_t n) {
  NOTE(n);
  void *p = __libc_malloc(n ? n : 1);
  if (!p) abort();
  return p;
}

void *_Znam(size_t n) {
  NOTE(n);
  void *p = __libc_malloc(n ? n : 1);
  if (!p) abort();
  return p;
}

void *_ZnwmSt11align_val_t(size_t n, size_t alignment) {
  NOTE(n);
  void *p = __libc_memalign(alignment, n);
  if (!p) abort();
  return p;
}

void *_ZnamSt11align_val_t(size_t n, size_t alignment) {
  NOTE(n);
  void *p = __libc_memalign(alignment, n);
  if (!p) abort();
  return p;
}
