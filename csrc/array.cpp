#include "array.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

namespace nb = nanobind;

namespace xhat {
namespace {

std::string shape_text(int dimensions, const Py_ssize_t* sizes) {
  std::string text = "(";
  for (int axis = 0; axis < dimensions; ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(sizes[axis]);
  }
  return text + (dimensions == 1 ? ",)" : ")");
}

std::string shape_text(const Py_buffer& view) { return shape_text(view.ndim, view.shape); }

[[noreturn]] void raise_type(const std::string& message) { throw nb::type_error(message.c_str()); }
[[noreturn]] void raise_value(const std::string& message) { throw nb::value_error(message.c_str()); }

// "=" says native order, perhaps not aligned.
bool has_format(const Py_buffer& view, const char* plain, const char* standard) {
  return view.format && (std::strcmp(view.format, plain) == 0 || std::strcmp(view.format, standard) == 0);
}

bool is_double(const Py_buffer& view) { return has_format(view, "d", "=d"); }
bool is_float(const Py_buffer& view) { return has_format(view, "f", "=f"); }
bool is_byte(const Py_buffer& view) { return has_format(view, "B", "=B"); }

bool is_long(const Py_buffer& view) {
  return view.itemsize == 8 && (has_format(view, "l", "=l") || has_format(view, "q", "=q"));
}

std::string type_text(const Py_buffer& view) {
  if (is_double(view)) return "float64";
  if (is_float(view)) return "float32";
  return std::string("buffer format '") + (view.format ? view.format : "B") + "'";
}

}  // namespace

Array::Array(const char* who, const char* name, nb::handle object, Access access, Element element)
    : who_(who), name_(name), access_(access), view_{} {
  const bool floating = element == Element::floating, byte = element == Element::index;
  const std::string wanted = floating ? "float32 or float64" : byte ? "uint8" : "int64";
  if (object.is_none() || PyObject_GetBuffer(object.ptr(), &view_, PyBUF_FULL_RO) != 0) {
    PyErr_Clear();
    raise_type(expected() + " as an array of " + wanted + ", got " + nb::inst_name(object).c_str() +
               ". Convert it with np.asarray.");
  }
  const char* problem = nullptr;
  if (!PyBuffer_IsContiguous(&view_, 'C'))
    problem = " to be C-contiguous, got other strides. Convert it with np.ascontiguousarray.";
  else if (reinterpret_cast<std::uintptr_t>(view_.buf) % static_cast<std::size_t>(view_.itemsize) != 0)
    problem = " to be aligned, got an address between two elements. Copy it.";
  else if (access == Access::write && view_.readonly)
    problem = " to be writable, got a read-only array. Pass one that may be written.";
  const bool fits = floating ? is_float(view_) || is_double(view_) : byte ? is_byte(view_) : is_long(view_);
  const std::string got = fits ? "" : type_text(view_);
  if (got.empty() && !problem) return;
  PyBuffer_Release(&view_);    // a constructor that throws has no destructor
  if (!got.empty())
    raise_type(expected() + " of " + (byte ? "" : "native ") + wanted + ", got " + got +
               ". Convert it with astype.");
  raise_value(expected() + problem);
}

Array::~Array() { PyBuffer_Release(&view_); }

std::string Array::expected() const { return std::string(who_) + ": expected " + name_; }

void Array::expect_dimensions(int dimensions, const char* meaning) const {
  if (view_.ndim == dimensions) return;
  raise_value(expected() + " of shape " + meaning + ", got " + shape_text(view_) +
              ". Reshape it.");
}

void Array::expect_size(Index size) const {
  if (view_.ndim == 1 && view_.shape[0] == size) return;
  raise_value(expected() + " of shape " + shape_text(1, &size) + ", got " + shape_text(view_) + ". Make it fit x.");
}

void Array::expect_shape(std::initializer_list<Index> sizes) const {
  const int dimensions = static_cast<int>(sizes.size());
  if (view_.ndim == dimensions && std::equal(sizes.begin(), sizes.end(), view_.shape)) return;
  raise_value(expected() + " of shape " + shape_text(dimensions, sizes.begin()) + ", got " + shape_text(view_) +
              ". Make it fit x.");
}

void Array::expect_divides(const Array& other) const {
  const auto divides = [](Index part, Index whole) { return part > 0 ? whole % part == 0 : whole == 0; };
  if (view_.ndim == 2 && divides(size(0), other.size(0)) && divides(size(1), other.size(1))) return;
  raise_value(expected() + " of two sizes that divide those of " + other.name_ + ", " + shape_text(other.view_) +
              ", got " + shape_text(view_) + ". Reshape it to (groups, entries).");
}

void Array::expect_shape_of(const Array& other) const {
  bool same = view_.ndim == other.view_.ndim;
  for (int axis = 0; same && axis < view_.ndim; ++axis) same = view_.shape[axis] == other.view_.shape[axis];
  if (same) return;
  raise_value(expected() + " of shape " + shape_text(other.view_) + ", got " + shape_text(view_) + ". Make it fit " +
              other.name_ + ".");
}

void Array::expect_type_of(const Array& other) const {
  if (view_.itemsize == other.view_.itemsize) return;
  raise_type(expected() + " of " + type_text(other.view_) + ", got " +
             type_text(view_) + ". Convert it with astype.");
}

void Array::expect_float64() const {
  if (is_double(view_)) return;
  raise_type(expected() + " of float64, got " + type_text(view_) +
             ". Convert it with astype.");
}

void Array::expect_apart_from(const Array& other) const {
  const char* const mine = data<const char>();
  const char* const theirs = other.data<const char>();
  if (view_.len == 0 || other.view_.len == 0 || mine + view_.len <= theirs || theirs + other.view_.len <= mine) return;
  raise_value(expected() + " to share no memory with " + other.name_ +
              ", got overlapping arrays. Pass an array of its own.");
}

}  // namespace xhat
