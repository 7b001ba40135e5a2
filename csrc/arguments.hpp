// The arguments of one call, judged; then the variant in use runs without the interpreter lock.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "array.hpp"
#include "kernels.hpp"
#include "variants.hpp"

namespace xhat {

namespace nb = nanobind;

using Pair = std::array<Index, 2>;    // rows, columns

// Calls work() without the interpreter lock.
template <class Work>
void without_lock(const Work& work) {
  std::exception_ptr error;
  PyThreadState* const state = PyEval_SaveThread();
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    // The interpreter has ended, and CPython before 3.14 ends its daemon threads by unwinding their stack, which C++
    // answers with an abort. Like 3.14, wait for the end of the process instead.
    for (;;) pause();
  }
  if (error) std::rethrow_exception(error);
}

// The arrays of one call, held until it ends.
class Arguments {
 public:
  explicit Arguments(const char* who) : who_(who) {}

  const Array& x(nb::handle object, int dimensions, const char* shape, Access access = Access::read) {
    const Array& array = add("x", object, access);
    array.expect_dimensions(dimensions, shape);
    return array;
  }

  // An array of the type and shape of another.
  const Array& like(const Array& other, const char* name, nb::handle object, Access access = Access::read) {
    const Array& array = add(name, object, access);
    array.expect_type_of(other);
    array.expect_shape_of(other);
    return array;
  }

  const Array& array(const char* name, nb::handle object) { return add(name, object, Access::read); }

  // An array of the type of another.
  const Array& typed(const Array& other, const char* name, nb::handle object, Access access) {
    const Array& array = add(name, object, access);
    array.expect_type_of(other);
    return array;
  }

  // Indices, one for each entry of another array.
  unsigned char* argmax(const Array& other, nb::handle object, Access access) {
    const Array& array = add("argmax", object, access, Element::index);
    array.expect_shape_of(other);
    return array.data<unsigned char>();
  }

  // A class for each row, each from 0 to classes - 1; a copy, since another thread may write to the caller's meanwhile.
  std::vector<long long> labels(nb::handle object, Index rows, Index classes) {
    const Array& array = add("labels", object, Access::read, Element::label);
    array.expect_size(rows);
    const long long* const given = array.data<long long>();
    const std::vector<long long> labels(given, given + rows);
    for (Index i = 0; i < rows; ++i)
      if (labels[i] < 0 || labels[i] >= classes)
        throw nb::value_error((std::string(who_) + ": expected labels from 0 to " + std::to_string(classes - 1) +
                               ", got " + std::to_string(labels[i]) + ". Number the classes from 0.").c_str());
    return labels;
  }

  // How windows of a size move over planes.
  Windows windows(const Planes& planes, Pair size, Pair stride, Pair padding) const {
    return {axis("height", planes.height, size[0], stride[0], padding[0]),
            axis("width", planes.width, size[1], stride[1], padding[1])};
  }

  // A byte counts the entries of a window.
  void expect_small(const Windows& windows) const {
    const Index rows = windows.rows.size, columns = windows.columns.size;
    if (rows <= kMostEntries && columns <= kMostEntries && rows * columns <= kMostEntries) return;
    throw nb::value_error((std::string(who_) + ": expected windows of at most " + std::to_string(kMostEntries) +
                           " entries, got " + std::to_string(rows) + " x " + std::to_string(columns) +
                           ". Use the reference for larger ones.").c_str());
  }

  // Every window has an entry inside the image.
  void expect_met(const Planes& planes, const Windows& windows) const {
    const auto [rows, columns] = windows;
    const bool met = planes.height > 0 && planes.width > 0 && rows.padding <= rows.size / 2 &&
                     columns.padding <= columns.size / 2;
    if (met) return;
    throw nb::value_error((std::string(who_) +
                           ": expected an image with pixels and padding of at most half a window, got " +
                           std::to_string(planes.height) + " x " + std::to_string(planes.width) + " and " +
                           std::to_string(rows.padding) + " x " + std::to_string(columns.padding) +
                           ". Make every window meet the image.").c_str());
  }

  // A float64 array of one entry for each row, column or channel.
  double* entries(const char* name, nb::handle object, Index size, Access access = Access::read) {
    const Array& array = add(name, object, access);
    array.expect_float64();
    array.expect_size(size);
    return array.data<double>();
  }

  const double* entries_or_none(const char* name, nb::handle object, Index size) {
    return object.is_none() ? nullptr : entries(name, object, size);
  }

  // A parameter of one entry for each channel, of any floating type, or null for None.
  const double* parameter(const char* name, nb::handle object, Index size) {
    if (object.is_none()) return nullptr;
    Array& array = add(name, object, Access::read);
    array.expect_size(size);
    return array.doubles();
  }

  // A float64 array (rows, columns), or null for None.
  const double* matrix_or_none(const char* name, nb::handle object, Index rows, Index columns) {
    if (object.is_none()) return nullptr;
    const Array& array = add(name, object, Access::read);
    array.expect_float64();
    array.expect_shape({rows, columns});
    return array.data<double>();
  }

  // A parameter (groups, entries) that divides x (rows, columns), of any floating type, or null for None; all lines of
  // one call have one shape.
  const double* lines_or_none(const char* name, nb::handle object, const Array& x, RowsShape& shape) {
    return object.is_none() ? nullptr : line(name, object, x, shape, Access::read).doubles();
  }

  // Lines to write to, in float64.
  double* lines(const char* name, nb::handle object, const Array& x, RowsShape& shape) {
    const Array& array = line(name, object, x, shape, Access::write);
    array.expect_float64();
    return array.data<double>();
  }

  Statistics statistics(nb::handle mean, nb::handle mean_low, nb::handle var, nb::handle rstd, Index size) {
    return {entries("mean", mean, size, Access::write), entries("mean_low", mean_low, size, Access::write),
            entries("var", var, size, Access::write), entries("rstd", rstd, size, Access::write)};
  }

  void expect_eps(double eps) const {
    if (std::isfinite(eps) && eps >= 0) return;
    const std::string got = nb::cast<std::string>(nb::repr(nb::float_(eps)));
    throw nb::value_error((std::string(who_) + ": expected eps finite and >= 0, got " + got +
                           ". It is added to a variance.").c_str());
  }

  Dropping dropping(unsigned long long key, double rate) const {
    constexpr double kWordValues = 0x1p32;
    if (!(rate >= 0 && rate <= 1))
      throw nb::value_error((std::string(who_) + ": expected a rate from 0 to 1, got " +
                             nb::cast<std::string>(nb::repr(nb::float_(rate))) +
                             ". It is the share that is dropped.").c_str());
    // where all is dropped there is nothing to scale
    return {key, std::llrint(rate * kWordValues), rate < 1 ? 1 / (1 - rate) : 1.0};
  }

  // None, or the rate and the key of what follows a norm.
  Epilogue epilogue(nb::handle object) const {
    if (object.is_none()) return {};
    double rate;
    unsigned long long key;
    if (!nb::isinstance<nb::tuple>(object) || nb::len(object) != 2 ||
        !nb::try_cast(nb::borrow<nb::tuple>(object)[0], rate) || !nb::try_cast(nb::borrow<nb::tuple>(object)[1], key))
      throw nb::type_error((std::string(who_) + ": expected epilogue as a rate and a key of 64 bits, got " +
                            nb::cast<std::string>(nb::repr(object)) + ". Pass an Epilogue, or None.").c_str());
    return {true, rate > 0, dropping(key, rate)};
  }

  // Calls function(kernels, zero) of the variant in use for the type of x, float32 or float64; zero is of that type.
  // The interpreter lock is released meanwhile.
  template <class Function>
  void run(const Array& x, const Function& function) {
    x.expect_float32_or_float64();
    call(x, function, [](const Variant&) {});
  }

  // Likewise for every floating type: the kernels of norms.
  template <class Function>
  void run_norm(const Array& x, const Function& function) {
    call(x, function, [&](const Variant& variant) {
      if (x.type() == Type::float16)
        function(variant.float16, Half{});
      else
        function(variant.bfloat16, BFloat16{});
    });
  }

 private:
  static constexpr int kMost = 12;
  static constexpr Index kMostEntries = 255;
  static constexpr Index kMostSteps = Index{1} << 31;    // sums of a few such lengths do not overflow

  WindowAxis axis(const char* name, Index length, Index size, Index stride, Index padding) const {
    const bool fits = size >= 1 && stride >= 1 && stride <= kMostSteps && padding >= 0 && padding <= kMostSteps &&
                      size <= length + 2 * padding;
    if (fits) return {size, stride, padding, (length + 2 * padding - size) / stride + 1};
    throw nb::value_error((std::string(who_) + ": expected windows inside the padded " + name +
                           " with stride >= 1, got size " +
                           std::to_string(size) + ", stride " + std::to_string(stride) + ", padding " +
                           std::to_string(padding) + ", " + name + " " + std::to_string(length) +
                           ". Make them fit x.").c_str());
  }

  Array& line(const char* name, nb::handle object, const Array& x, RowsShape& shape, Access access) {
    Array& array = add(name, object, access);
    if (lines_) {
      array.expect_shape_of(*lines_);
    } else {
      array.expect_divides(x);
      shape.groups = array.size(0);
      shape.entries = array.size(1);
      lines_ = &array;
    }
    return array;
  }

  Array& add(const char* name, nb::handle object, Access access, Element element = Element::floating) {
    return arrays_.at(count_++).emplace(who_, name, object, access, element);
  }

  template <class Function, class Other>
  void call(const Array& x, const Function& function, const Other& other) {
    expect_outputs_apart();
    const Variant& variant = variant_in_use();
    without_lock([&] {
      if (x.type() == Type::float32)
        function(variant.float32, float{});
      else if (x.type() == Type::float64)
        function(variant.float64, double{});
      else
        other(variant);
    });
  }

  // Nothing written may be read, or written as something else.
  void expect_outputs_apart() const {
    for (int i = 0; i < count_; ++i)
      for (int j = 0; arrays_[i]->access() == Access::write && j < count_; ++j)
        if (j != i) arrays_[i]->expect_apart_from(*arrays_[j]);
  }

  const char* who_;
  std::array<std::optional<Array>, kMost> arrays_;
  int count_ = 0;
  const Array* lines_ = nullptr;
};

// The arguments that the functions of the channels loop share.
class Channels : public Arguments {
 public:
  Channels(const char* who, nb::handle x_, nb::handle weights_, double total = 0)
      : Arguments(who), x(Arguments::x(x_, 3, "(outer, channels, inner)")) {
    shape = {x.size(0), x.size(1), x.size(2)};
    weights = {matrix_or_none("weights", weights_, shape.outer, shape.inner), total};
    if (!weights.entries) weights.total = static_cast<double>(shape.outer * shape.inner);
  }

  double* each(const char* name, nb::handle object, Access access = Access::read) {
    return entries(name, object, shape.channels, access);
  }

  const double* each_or_none(const char* name, nb::handle object) {
    return entries_or_none(name, object, shape.channels);
  }

  const double* parameter(const char* name, nb::handle object) {
    return Arguments::parameter(name, object, shape.channels);
  }

  Centre centre(nb::handle mean, nb::handle mean_low, nb::handle rstd) {
    return {each("mean", mean), each_or_none("mean_low", mean_low), each("rstd", rstd)};
  }

  const Array& x;
  ChannelsShape shape;
  Weights weights;
};

}  // namespace xhat
