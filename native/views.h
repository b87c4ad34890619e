// NumPy arrays as checked views. Everything that a caller can get wrong is refused here, before any memory is read.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

#include "matmul.h"

namespace apportion {

// Raised as ValueError.
[[noreturn]] inline void refuse(const std::string& what) { throw std::invalid_argument(what); }

inline void require(bool holds, const char* what) {
  if (!holds) refuse(what);
}

enum class Access { read, write };

// A borrowed array; construct and destroy it with the GIL held.
class View {
 public:
  View(nanobind::handle array, const char* name, const char* types, Access access = Access::read) : name_(name) {
    const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (access == Access::write ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(array.ptr(), &buffer_, flags)) throw nanobind::python_error();
    if (const char* problem = find_problem(types)) {
      PyBuffer_Release(&buffer_);
      refuse(std::string(name) + problem);
    }
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  ~View() { PyBuffer_Release(&buffer_); }

  int ndim() const { return buffer_.ndim; }
  char type() const { return buffer_.format[0]; }
  size_t dim(int i) const { return size_t(buffer_.shape[i]); }
  size_t nbytes() const { return size_t(buffer_.len); }
  size_t size() const { return nbytes() / size_t(buffer_.itemsize); }

  template <class T>
  T* data() const {
    return static_cast<T*>(buffer_.buf);
  }

  // Numbers between neighbours along dimension i.
  size_t stride(int i) const {
    if (buffer_.shape[i] <= 1) return 0;
    if (buffer_.strides[i] <= 0 || buffer_.strides[i] % buffer_.itemsize)
      refuse(std::string(name_) + " has strides that are not supported");
    return size_t(buffer_.strides[i] / buffer_.itemsize);
  }

  const View& of_ndim(int ndim) const {
    if (buffer_.ndim != ndim) refuse(std::string(name_) + " must have " + std::to_string(ndim) + " dimensions");
    return *this;
  }

  const View& contiguous() const {
    if (!PyBuffer_IsContiguous(&buffer_, 'C')) refuse(std::string(name_) + " must be C-contiguous");
    return *this;
  }

  const View& last_contiguous() const {
    const int last = buffer_.ndim - 1;
    if (buffer_.shape[last] > 1 && buffer_.strides[last] != buffer_.itemsize)
      refuse(std::string(name_) + " must be contiguous in its last dimension");
    return *this;
  }

 private:
  const char* find_problem(const char* types) const {
    const char* format = buffer_.format;
    if (!format[0] || format[1] ||
        !std::char_traits<char>::find(types, std::char_traits<char>::length(types), format[0]))
      return " has the wrong type of numbers";
    if (buffer_.ndim < 1) return " must be an array";
    if (buffer_.len && reinterpret_cast<uintptr_t>(buffer_.buf) % uintptr_t(buffer_.itemsize)) return " is not aligned";
    return nullptr;
  }

  Py_buffer buffer_;
  const char* name_;
};

inline constexpr const char* kFloat = "f";
inline constexpr const char* kInt = "i";
inline constexpr const char* kByte = "B";
inline constexpr const char* kCacheTypes = "ef";

// A flat array that may be None: then it has no numbers.
class OptionalView {
 public:
  OptionalView(nanobind::handle array, const char* name, const char* types) {
    if (!array.is_none()) view_.emplace(array, name, types).of_ndim(1).contiguous();
  }

  template <class T>
  std::span<const T> numbers() const {
    return view_ ? std::span(view_->data<const T>(), view_->size()) : std::span<const T>();
  }

 private:
  std::optional<View> view_;
};

// An array that may be None: the numbers, or null.
class OptionalFloats {
 public:
  OptionalFloats(nanobind::handle array, const char* name, size_t size) {
    if (array.is_none()) return;
    view_.emplace(array, name, kFloat);
    if (view_->contiguous().size() != size)
      refuse(std::string(name) + " must have " + std::to_string(size) + " numbers");
  }

  const float* data() const { return view_ ? view_->data<const float>() : nullptr; }

 private:
  std::optional<View> view_;
};

}  // namespace apportion
