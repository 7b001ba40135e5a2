// A NumPy array as the kernels see it: checked once, then a pointer.
#pragma once

#include <nanobind/nanobind.h>

#include <initializer_list>
#include <string>

#include "kernels.hpp"

namespace xhat {

enum class Access { read, write };
enum class Element { floating, index, label };    // float32 or float64; uint8; int64

class Array {
 public:
  // Raises TypeError unless `object` is an array of native float32 or float64 (or of uint8 or int64, as asked), ValueError
  // unless it is C-contiguous, aligned and, for Access::write, writable. `who` and `name` begin and name it in the
  // message.
  Array(const char* who, const char* name, nanobind::handle object, Access access,
        Element element = Element::floating);

  ~Array();
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  bool is_float32() const { return view_.itemsize == sizeof(float); }
  Access access() const { return access_; }
  Index size(int axis) const { return view_.shape[axis]; }
  Index total() const { return view_.len / view_.itemsize; }    // elements

  // Each raises ValueError or TypeError if the array is not as expected.
  void expect_dimensions(int dimensions, const char* meaning) const;
  void expect_size(Index size) const;    // of one dimension
  void expect_shape(std::initializer_list<Index> sizes) const;
  void expect_divides(const Array& other) const;    // both of two dimensions
  void expect_shape_of(const Array& other) const;
  void expect_float64() const;
  void expect_type_of(const Array& other) const;
  void expect_apart_from(const Array& other) const;

  template <class T>
  T* data() const {
    return static_cast<T*>(view_.buf);
  }

 private:
  std::string expected() const;

  const char* who_;
  const char* name_;
  Access access_;
  Py_buffer view_;
};

}  // namespace xhat
