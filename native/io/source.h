// An open file that weights are read from, past the page cache where the file system allows that.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace apportion {

// Direct reads begin, end and land at multiples of this: no disk has larger sectors.
inline constexpr size_t kBlock = 4096;

constexpr uint64_t block_begin(uint64_t offset) { return offset / kBlock * kBlock; }
constexpr uint64_t block_end(uint64_t offset) { return (offset + kBlock - 1) / kBlock * kBlock; }

// What tells one state of a file from another.
struct FileFacts {
  uint64_t device = 0, inode = 0, nbytes = 0;
  int64_t modified_ns = 0;
};

class Source {
 public:
  // Null with `error` set to an errno where it cannot be opened; EINVAL for what is no regular file.
  static std::unique_ptr<Source> open(const std::string& path, bool direct, int& error);
  ~Source() { close(); }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  // Once nothing reads from it any more.
  void close();

  // As it was when it was opened.
  const FileFacts& facts() const { return facts_; }
  // Bytes in it now; 0 where the system does not tell.
  uint64_t nbytes_now() const;
  // Somebody wrote to it, or cut it, since it was opened.
  bool changed() const;

  bool direct() const { return refusal_.load(std::memory_order_relaxed) == 0; }
  // The errno with which direct reading was refused, -1 where it was not asked for.
  int refusal() const { return refusal_.load(std::memory_order_relaxed); }
  void refuse_direct(int error) { refusal_.store(error, std::memory_order_relaxed); }

  int descriptor(bool direct) const { return direct ? direct_ : buffered_; }
  // What a buffered read left in the page cache goes at once: the budget has no room for it.
  void drop_cached(uint64_t offset, size_t nbytes) const;

 private:
  Source() = default;

  int buffered_ = -1, direct_ = -1;
  FileFacts facts_;
  std::atomic<int> refusal_{-1};
};

}  // namespace apportion
