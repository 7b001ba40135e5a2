#include "array.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>

#define XHAT_IMPORTS_NUMPY
#include "numpy.hpp"

namespace nb = nanobind;

namespace xhat {
namespace {

std::string text_of_shape(int dimensions, const Index* sizes) {
  std::string text = "(";
  for (int axis = 0; axis < dimensions; ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(sizes[axis]);
  }
  return text + (dimensions == 1 ? ",)" : ")");
}

[[noreturn]] void raise_type(const std::string& message) { throw nb::type_error(message.c_str()); }
[[noreturn]] void raise_value(const std::string& message) { throw nb::value_error(message.c_str()); }

PyArrayObject* array_of(nb::handle object) { return reinterpret_cast<PyArrayObject*>(object.ptr()); }

// ml_dtypes' bfloat16 gets its number when that module is imported.
bool is_bfloat16(PyArrayObject* array) {
  static std::atomic<int> known{-1};
  const int number = PyArray_TYPE(array);
  if (!PyTypeNum_ISUSERDEF(number) || PyArray_ITEMSIZE(array) != sizeof(BFloat16)) return false;
  if (number == known.load()) return true;
  const nb::handle type(reinterpret_cast<PyObject*>(PyArray_DESCR(array)));
  if (std::strcmp(nb::str(type).c_str(), "bfloat16") != 0) return false;
  known.store(number);
  return true;
}

// Whether the kernels know the type of an array; if so, sets it.
bool find_type(PyArrayObject* array, Type& type) {
  if (!PyArray_ISNOTSWAPPED(array)) return false;
  switch (PyArray_TYPE(array)) {
    case NPY_FLOAT: type = Type::float32; return true;
    case NPY_DOUBLE: type = Type::float64; return true;
    case NPY_HALF: type = Type::float16; return true;
    case NPY_UBYTE: type = Type::uint8; return true;
    case NPY_LONG:
    case NPY_LONGLONG: type = Type::int64; return PyArray_ITEMSIZE(array) == sizeof(long long);
    default: type = Type::bfloat16; return is_bfloat16(array);
  }
}

bool fits(Element element, Type type) {
  return (element == Element::index) == (type == Type::uint8) && (element == Element::label) == (type == Type::int64);
}

}  // namespace

void import_numpy() {
  if (PyArray_ImportNumPyAPI() < 0) throw nb::python_error();
}

Array::Array(const char* who, const char* name, nb::handle object, Access access, Element element)
    : who_(who), name_(name), object_(object), access_(access) {
  const bool byte = element == Element::index;
  const char* const wanted = byte ? "uint8"
                             : element == Element::label ? "int64" : "float16, bfloat16, float32 or float64";
  if (!PyArray_Check(object.ptr()))
    raise_type(expected() + " as an array of " + wanted + ", got " +
               nb::inst_name(object).c_str() + ". Convert it with np.asarray.");
  PyArrayObject* const array = array_of(object);
  if (!find_type(array, type_) || !fits(element, type_))
    raise_type(expected() + " of " + (byte ? "" : "native ") + wanted + ", got " + type_text() +
               ". Convert it with astype.");
  data_ = PyArray_DATA(array);
  if (!PyArray_IS_C_CONTIGUOUS(array))
    raise_value(expected() + " to be C-contiguous, got other strides. Convert it with np.ascontiguousarray.");
  if (reinterpret_cast<std::uintptr_t>(data_) % static_cast<std::size_t>(PyArray_ITEMSIZE(array)) != 0)
    raise_value(expected() + " to be aligned, got an address between two elements. Copy it.");
  if (access == Access::write && !PyArray_ISWRITEABLE(array))
    raise_value(expected() + " to be writable, got a read-only array. Pass one that may be written.");
  dimensions_ = PyArray_NDIM(array);
  sizes_ = PyArray_DIMS(array);
  bytes_ = PyArray_NBYTES(array);
}

std::string Array::expected() const { return std::string(who_) + ": expected " + name_; }

std::string Array::shape_text() const { return text_of_shape(dimensions_, sizes_); }

std::string Array::type_text() const {
  return nb::str(nb::handle(reinterpret_cast<PyObject*>(PyArray_DESCR(array_of(object_))))).c_str();
}

template <class T>
const double* Array::copied() {
  const T* const values = data<T>();
  const Index count = bytes_ / static_cast<Index>(sizeof(T));
  doubles_.emplace(count);
  std::copy(values, values + count, doubles_->data());
  return doubles_->data();
}

const double* Array::doubles() {
  if (type_ == Type::float64) return data<double>();
  if (type_ == Type::float32) return copied<float>();
  return type_ == Type::float16 ? copied<Half>() : copied<BFloat16>();
}

void Array::expect_dimensions(int dimensions, const char* meaning) const {
  if (dimensions_ == dimensions) return;
  raise_value(expected() + " of shape " + meaning + ", got " + shape_text() + ". Reshape it.");
}

void Array::expect_size(Index size) const {
  if (dimensions_ == 1 && sizes_[0] == size) return;
  raise_value(expected() + " of shape " + text_of_shape(1, &size) + ", got " + shape_text() + ". Make it fit x.");
}

void Array::expect_shape(std::initializer_list<Index> sizes) const {
  const int dimensions = static_cast<int>(sizes.size());
  if (dimensions_ == dimensions && std::equal(sizes.begin(), sizes.end(), sizes_)) return;
  raise_value(expected() + " of shape " + text_of_shape(dimensions, sizes.begin()) + ", got " + shape_text() +
              ". Make it fit x.");
}

void Array::expect_divides(const Array& other) const {
  const auto divides = [](Index part, Index whole) { return part > 0 ? whole % part == 0 : whole == 0; };
  if (dimensions_ == 2 && divides(size(0), other.size(0)) && divides(size(1), other.size(1))) return;
  raise_value(expected() + " of two sizes that divide those of " + other.name_ + ", " + other.shape_text() +
              ", got " + shape_text() + ". Reshape it to (groups, entries).");
}

void Array::expect_shape_of(const Array& other) const {
  if (dimensions_ == other.dimensions_ && std::equal(sizes_, sizes_ + dimensions_, other.sizes_)) return;
  raise_value(expected() + " of shape " + other.shape_text() + ", got " + shape_text() + ". Make it fit " +
              other.name_ + ".");
}

void Array::expect_type_of(const Array& other) const {
  if (type_ == other.type_) return;
  raise_type(expected() + " of " + other.type_text() + ", got " + type_text() + ". Convert it with astype.");
}

void Array::expect_float64() const {
  if (type_ == Type::float64) return;
  raise_type(expected() + " of float64, got " + type_text() + ". Convert it with astype.");
}

void Array::expect_float32_or_float64() const {
  if (type_ == Type::float32 || type_ == Type::float64) return;
  raise_type(expected() + " of float32 or float64, got " + type_text() + ". Convert it with astype.");
}

void Array::expect_apart_from(const Array& other) const {
  const char* const mine = data<const char>();
  const char* const theirs = other.data<const char>();
  if (bytes_ == 0 || other.bytes_ == 0 || mine + bytes_ <= theirs || theirs + other.bytes_ <= mine) return;
  raise_value(expected() + " to share no memory with " + other.name_ +
              ", got overlapping arrays. Pass an array of its own.");
}

}  // namespace xhat
