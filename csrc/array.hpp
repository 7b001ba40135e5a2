// A NumPy array as the kernels see it: checked once, then a pointer.
#pragma once

#include <nanobind/nanobind.h>

#include <initializer_list>
#include <optional>
#include <string>

#include "kernels.hpp"
#include "workspace.hpp"

namespace xhat {

enum class Access { read, write };
enum class Element { floating, index, label };    // one of the floating types; uint8; int64
enum class Type { float32, float64, float16, bfloat16, uint8, int64 };

// Once, before any Array is made. Raises ImportError.
void import_numpy();

// It borrows: the caller's arguments keep the array alive. Its shape is read only under the interpreter lock.
class Array {
 public:
  // Raises TypeError unless `object` is an array of a native floating type (or of uint8 or int64, as asked), ValueError
  // unless it is C-contiguous, aligned and, for Access::write, writable. `who` and `name` begin and name it in the
  // message.
  Array(const char* who, const char* name, nanobind::handle object, Access access,
        Element element = Element::floating);

  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  Type type() const { return type_; }
  Access access() const { return access_; }
  int dimensions() const { return dimensions_; }
  Index size(int axis) const { return sizes_[axis]; }
  Index bytes() const { return bytes_; }

  // Each raises ValueError or TypeError if the array is not as expected.
  void expect_dimensions(int dimensions, const char* meaning) const;
  void expect_size(Index size) const;    // of one dimension
  void expect_shape(std::initializer_list<Index> sizes) const;
  void expect_divides(const Array& other) const;    // both of two dimensions
  void expect_shape_of(const Array& other) const;
  void expect_float64() const;
  void expect_float32_or_float64() const;
  void expect_type_of(const Array& other) const;
  void expect_apart_from(const Array& other) const;

  template <class T>
  T* data() const {
    return static_cast<T*>(data_);
  }

  // Its numbers in float64: its own memory, or a copy that lives as long as this.
  const double* doubles();

 private:
  template <class T>
  const double* copied();
  std::string expected() const;
  std::string shape_text() const;
  std::string type_text() const;

  const char* who_;
  const char* name_;
  nanobind::handle object_;
  Access access_;
  Type type_;
  int dimensions_;
  const Py_intptr_t* sizes_;
  void* data_;
  Index bytes_;
  std::optional<Workspace> doubles_;
};

}  // namespace xhat
