#include "source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace apportion {

namespace {

int open_again(const std::string& path, int flags) {
  int descriptor;
  do descriptor = ::open(path.c_str(), flags);
  while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

int open_direct(const std::string& path) {
#if defined(O_DIRECT)
  return open_again(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
#else
  (void)path;
  errno = EOPNOTSUPP;
  return -1;
#endif
}

bool find_facts(int descriptor, FileFacts& facts) {
  struct stat status;
  if (fstat(descriptor, &status)) return false;
  if (!S_ISREG(status.st_mode)) {
    errno = EINVAL;
    return false;
  }
#if defined(__APPLE__)
  const timespec& modified = status.st_mtimespec;
#else
  const timespec& modified = status.st_mtim;
#endif
  facts = {uint64_t(status.st_dev), uint64_t(status.st_ino), uint64_t(status.st_size),
           int64_t(modified.tv_sec) * 1'000'000'000 + modified.tv_nsec};
  return true;
}

// Opened by name a second time, so it may be another file by now.
bool same_file(int descriptor, const FileFacts& facts) {
  FileFacts other;
  return find_facts(descriptor, other) && other.device == facts.device && other.inode == facts.inode;
}

}  // namespace

std::unique_ptr<Source> Source::open(const std::string& path, bool direct, int& error) {
  std::unique_ptr<Source> source(new Source);
  // Not to wait for a writer, should it be a pipe.
  source->buffered_ = open_again(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (source->buffered_ < 0 || !find_facts(source->buffered_, source->facts_)) {
    error = errno;
    return nullptr;
  }
#if defined(POSIX_FADV_RANDOM)
  posix_fadvise(source->buffered_, 0, 0, POSIX_FADV_RANDOM);  // the page cache reads nothing ahead
#elif defined(F_NOCACHE)
  fcntl(source->buffered_, F_NOCACHE, 1);
#endif
  if (!direct) return source;
  source->direct_ = open_direct(path);
  source->refusal_ = source->direct_ < 0 ? errno : same_file(source->direct_, source->facts_) ? 0 : ESTALE;
  return source;
}

void Source::close() {
  for (int* descriptor : {&direct_, &buffered_})
    if (*descriptor >= 0) ::close(std::exchange(*descriptor, -1));
}

uint64_t Source::nbytes_now() const {
  FileFacts now;
  return find_facts(buffered_, now) ? now.nbytes : 0;
}

bool Source::changed() const {
  FileFacts now;
  return !find_facts(buffered_, now) || now.nbytes != facts_.nbytes || now.modified_ns != facts_.modified_ns;
}

void Source::drop_cached(uint64_t offset, size_t nbytes) const {
#if defined(POSIX_FADV_DONTNEED)
  posix_fadvise(buffered_, off_t(block_begin(offset)), off_t(block_end(offset + nbytes) - block_begin(offset)),
                POSIX_FADV_DONTNEED);
#else
  (void)offset, (void)nbytes;
#endif
}

}  // namespace apportion
