// The Python module xhat._native: checks the arguments, releases the interpreter lock, calls the variant in use.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "array.hpp"
#include "kernels.hpp"
#include "parallel.hpp"

namespace nb = nanobind;

namespace xhat {
namespace {

using Pair = std::array<Index, 2>;    // rows, columns

// What can run on this machine, slowest first.
std::vector<const Variant*> available() {
  std::vector<const Variant*> result{&baseline::variant};
#ifdef XHAT_X86
  if (__builtin_cpu_supports("avx2")) result.push_back(&avx2::variant);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    result.push_back(&avx512::variant);
#endif
  return result;
}

std::atomic<const Variant*> in_use{&baseline::variant};

std::vector<std::string> variants() {
  std::vector<std::string> names;
  for (const Variant* variant : available()) names.emplace_back(variant->name);
  return names;
}

void use(const std::string& name) {
  for (const Variant* variant : available())
    if (name == variant->name) return in_use.store(variant);
  throw nb::value_error(("use: expected a name from variants(), got '" + name + "'. Choose one of them.").c_str());
}

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

  const Array& x(nb::handle object, int dimensions, const char* shape) {
    const Array& array = add("x", object, Access::read);
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

  // A float64 array (rows, columns), or null for None.
  const double* matrix_or_none(const char* name, nb::handle object, Index rows, Index columns) {
    if (object.is_none()) return nullptr;
    const Array& array = add(name, object, Access::read);
    array.expect_float64();
    array.expect_shape({rows, columns});
    return array.data<double>();
  }

  // A float64 array (groups, entries) that divides x (rows, columns); all of them in one call have one shape.
  double* lines(const char* name, nb::handle object, const Array& x, RowsShape& shape, Access access = Access::read) {
    const Array& array = add(name, object, access);
    array.expect_float64();
    if (lines_) {
      array.expect_shape_of(*lines_);
    } else {
      array.expect_divides(x);
      shape.groups = array.size(0);
      shape.entries = array.size(1);
      lines_ = &array;
    }
    return array.data<double>();
  }

  const double* lines_or_none(const char* name, nb::handle object, const Array& x, RowsShape& shape) {
    return object.is_none() ? nullptr : lines(name, object, x, shape);
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

  // Calls function(kernels, zero) of the variant in use for the type of x; zero is of that type. The interpreter lock
  // is released meanwhile.
  template <class Function>
  void run(const Array& x, const Function& function) {
    expect_outputs_apart();
    const Variant& variant = *in_use.load();
    without_lock([&] {
      if (x.is_float32())
        function(variant.float32, float{});
      else
        function(variant.float64, double{});
    });
  }

 private:
  static constexpr int kMost = 10;
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

  const Array& add(const char* name, nb::handle object, Access access, Element element = Element::floating) {
    return arrays_.at(count_++).emplace(who_, name, object, access, element);
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

constexpr char kRows[] = "(rows, columns)";
constexpr char kChannels[] = "(outer, channels, inner)";

void rows_forward(nb::handle x_, nb::handle gamma_, nb::handle beta_, double eps, bool centred, nb::handle out_,
                  nb::handle mean_, nb::handle mean_low_, nb::handle var_, nb::handle rstd_) {
  Arguments arguments("rows_forward");
  arguments.expect_eps(eps);
  const Array& x = arguments.x(x_, 2, kRows);
  RowsShape shape{x.size(0), x.size(1), 1, 1};
  const double* const gamma = arguments.lines_or_none("gamma", gamma_, x, shape);
  const double* const beta = arguments.lines_or_none("beta", beta_, x, shape);
  const Array& out = arguments.like(x, "out", out_, Access::write);
  const Statistics statistics = arguments.statistics(mean_, mean_low_, var_, rstd_, shape.rows);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.rows_forward(x.data<T>(), gamma, beta, eps, centred, out.data<T>(), statistics, shape);
  });
}

void rows_backward(nb::handle dy_, nb::handle x_, nb::handle gamma_, nb::handle mean_, nb::handle mean_low_,
                   nb::handle rstd_, bool centred, nb::handle out_, nb::handle dgamma_, nb::handle dbeta_) {
  Arguments arguments("rows_backward");
  const Array& x = arguments.x(x_, 2, kRows);
  RowsShape shape{x.size(0), x.size(1), 1, 1};
  const Array& dy = arguments.like(x, "dy", dy_);
  const double* const gamma = arguments.lines_or_none("gamma", gamma_, x, shape);
  const Centre centre{arguments.entries("mean", mean_, shape.rows),
                      arguments.entries("mean_low", mean_low_, shape.rows),
                      arguments.entries("rstd", rstd_, shape.rows)};
  const Array& out = arguments.like(x, "out", out_, Access::write);
  double* const dgamma = arguments.lines("dgamma", dgamma_, x, shape, Access::write);
  double* const dbeta = arguments.lines("dbeta", dbeta_, x, shape, Access::write);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.rows_backward(dy.data<T>(), x.data<T>(), gamma, centre, centred, out.data<T>(), dgamma, dbeta, shape);
  });
}

// The arguments that the functions of the channels loop share.
class Channels : public Arguments {
 public:
  Channels(const char* who, nb::handle x_, nb::handle weights_, double total = 0)
      : Arguments(who), x(Arguments::x(x_, 3, kChannels)) {
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

  Centre centre(nb::handle mean, nb::handle mean_low, nb::handle rstd) {
    return {each("mean", mean), each_or_none("mean_low", mean_low), each("rstd", rstd)};
  }

  const Array& x;
  ChannelsShape shape;
  Weights weights;
};

void channels_statistics(nb::handle x_, nb::handle weights_, double total, double eps, nb::handle mean_,
                         nb::handle mean_low_, nb::handle var_, nb::handle rstd_) {
  Channels arguments("channels_statistics", x_, weights_, total);
  arguments.expect_eps(eps);
  const Statistics statistics = arguments.statistics(mean_, mean_low_, var_, rstd_, arguments.shape.channels);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_statistics(arguments.x.template data<T>(), arguments.weights, eps, statistics, arguments.shape);
  });
}

void channels_forward(nb::handle x_, nb::handle weights_, double total, nb::handle gamma_, nb::handle beta_, double eps,
                      nb::handle out_, nb::handle mean_, nb::handle mean_low_, nb::handle var_, nb::handle rstd_) {
  Channels arguments("channels_forward", x_, weights_, total);
  arguments.expect_eps(eps);
  const double* const gamma = arguments.each_or_none("gamma", gamma_);
  const double* const beta = arguments.each_or_none("beta", beta_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  const Statistics statistics = arguments.statistics(mean_, mean_low_, var_, rstd_, arguments.shape.channels);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_forward(arguments.x.template data<T>(), arguments.weights, gamma, beta, eps, out.data<T>(),
                             statistics, arguments.shape);
  });
}

void channels_apply(nb::handle x_, nb::handle weights_, nb::handle gamma_, nb::handle beta_, nb::handle mean_,
                    nb::handle mean_low_, nb::handle rstd_, nb::handle out_) {
  Channels arguments("channels_apply", x_, weights_);
  const double* const gamma = arguments.each_or_none("gamma", gamma_);
  const double* const beta = arguments.each_or_none("beta", beta_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_apply(arguments.x.template data<T>(), arguments.weights, gamma, beta, centre, out.data<T>(),
                           arguments.shape);
  });
}

void channels_sums(nb::handle dy_, nb::handle x_, nb::handle weights_, nb::handle mean_, nb::handle mean_low_,
                   nb::handle rstd_, nb::handle dgamma_, nb::handle dbeta_) {
  Channels arguments("channels_sums", x_, weights_);
  const Array& dy = arguments.like(arguments.x, "dy", dy_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  double* const dgamma = arguments.each("dgamma", dgamma_, Access::write);
  double* const dbeta = arguments.each("dbeta", dbeta_, Access::write);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_sums(dy.data<T>(), arguments.x.template data<T>(), arguments.weights, centre, dgamma, dbeta,
                          arguments.shape);
  });
}

void channels_gradient(nb::handle dy_, nb::handle x_, nb::handle weights_, double total, nb::handle gamma_,
                       nb::handle mean_, nb::handle mean_low_, nb::handle rstd_, nb::handle dgamma_, nb::handle dbeta_,
                       nb::handle out_) {
  Channels arguments("channels_gradient", x_, weights_);
  arguments.weights.total = total;    // of all parts of the batch
  const Array& dy = arguments.like(arguments.x, "dy", dy_);
  const double* const gamma = arguments.each_or_none("gamma", gamma_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  const double* const dgamma = arguments.each("dgamma", dgamma_);
  const double* const dbeta = arguments.each("dbeta", dbeta_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_gradient(dy.data<T>(), arguments.x.template data<T>(), arguments.weights, gamma, centre, dgamma,
                              dbeta, out.data<T>(), arguments.shape);
  });
}

template <class Kernel>
void backward(const char* who, Kernel kernel, nb::handle dy_, nb::handle x_, nb::handle weights_, double total,
              nb::handle gamma_, nb::handle mean_, nb::handle mean_low_, nb::handle rstd_, nb::handle out_,
              nb::handle dgamma_, nb::handle dbeta_) {
  Channels arguments(who, x_, weights_, total);
  const Array& dy = arguments.like(arguments.x, "dy", dy_);
  const double* const gamma = arguments.each_or_none("gamma", gamma_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  double* const dgamma = arguments.each("dgamma", dgamma_, Access::write);
  double* const dbeta = arguments.each("dbeta", dbeta_, Access::write);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernel(kernels)(dy.data<T>(), arguments.x.template data<T>(), arguments.weights, gamma, centre, out.data<T>(),
                    dgamma, dbeta, arguments.shape);
  });
}

void channels_backward(nb::handle dy, nb::handle x, nb::handle weights, double total, nb::handle gamma, nb::handle mean,
                       nb::handle mean_low, nb::handle rstd, nb::handle out, nb::handle dgamma, nb::handle dbeta) {
  backward("channels_backward", [](const auto& kernels) { return kernels.channels_backward; }, dy, x, weights, total,
           gamma, mean, mean_low, rstd, out, dgamma, dbeta);
}

void channels_apply_backward(nb::handle dy, nb::handle x, nb::handle weights, nb::handle gamma, nb::handle mean,
                             nb::handle mean_low, nb::handle rstd, nb::handle out, nb::handle dgamma,
                             nb::handle dbeta) {
  backward("channels_apply_backward", [](const auto& kernels) { return kernels.channels_apply_backward; }, dy, x,
           weights, 0, gamma, mean, mean_low, rstd, out, dgamma, dbeta);
}

constexpr char kImages[] = "(samples, channels, height, width)";
constexpr char kColumns[] = "(groups, channels, window rows, window columns, members, rows, columns)";
constexpr char kPlanes[] = "(planes, height, width)";

// im2col reads images and writes columns, col2im reads columns and writes images.
template <class Call>
void convert(Arguments& arguments, const Array& images, const Array& columns, Pair stride, Pair padding,
             const Call& call) {
  images.expect_dimensions(4, kImages);
  columns.expect_dimensions(7, kColumns);
  const Planes planes{columns.size(0), columns.size(4), columns.size(1), images.size(2), images.size(3)};
  images.expect_shape({planes.groups * planes.members, planes.channels, planes.height, planes.width});
  const Windows windows = arguments.windows(planes, {columns.size(2), columns.size(3)}, stride, padding);
  columns.expect_shape({planes.groups, planes.channels, windows.rows.size, windows.columns.size, planes.members,
                        windows.rows.count, windows.columns.count});
  arguments.run(images, [&](const auto& kernels, auto zero) { call(kernels, zero, planes, windows); });
}

void im2col(nb::handle x_, nb::handle out_, Pair stride, Pair padding) {
  Arguments arguments("im2col");
  const Array& x = arguments.array("x", x_);
  const Array& out = arguments.typed(x, "out", out_, Access::write);
  convert(arguments, x, out, stride, padding, [&](const auto& kernels, auto zero, Planes planes, Windows windows) {
    using T = decltype(zero);
    kernels.im2col(x.data<T>(), out.data<T>(), planes, windows);
  });
}

void col2im(nb::handle columns_, nb::handle out_, Pair stride, Pair padding) {
  Arguments arguments("col2im");
  const Array& columns = arguments.array("columns", columns_);
  const Array& out = arguments.typed(columns, "out", out_, Access::write);
  convert(arguments, out, columns, stride, padding,
          [&](const auto& kernels, auto zero, Planes planes, Windows windows) {
            using T = decltype(zero);
            kernels.col2im(columns.data<T>(), out.data<T>(), planes, windows);
          });
}

void max_pool_forward(nb::handle x_, nb::handle out_, nb::handle argmax_, Pair size, Pair stride, Pair padding) {
  Arguments arguments("max_pool_forward");
  const Array& x = arguments.x(x_, 3, kPlanes);
  const Planes planes{1, 1, x.size(0), x.size(1), x.size(2)};
  const Windows windows = arguments.windows(planes, size, stride, padding);
  arguments.expect_small(windows);
  arguments.expect_met(planes, windows);
  const Array& out = arguments.typed(x, "out", out_, Access::write);
  out.expect_shape({planes.channels, windows.rows.count, windows.columns.count});
  unsigned char* const argmax = arguments.argmax(out, argmax_, Access::write);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.max_pool_forward(x.data<T>(), out.data<T>(), argmax, planes, windows);
  });
}

// Whether each index names an entry of its window that lies inside the image.
bool all_inside(const unsigned char* argmax, const Planes& planes, const Windows& windows) {
  const auto [rows, columns] = windows;
  const Index count = planes.count() * rows.count * columns.count;
  if (count == 0) return true;
  if (*std::max_element(argmax, argmax + count) >= rows.size * columns.size) return false;
  if (rows.padding == 0 && columns.padding == 0) return true;
  for (Index plane = 0; plane < planes.count(); ++plane)
    for (Index r = 0; r < rows.count; ++r)
      for (Index c = 0; c < columns.count; ++c, ++argmax) {
        const Index top = r * rows.stride - rows.padding, left = c * columns.stride - columns.padding;
        if (top >= 0 && top + rows.size <= planes.height && left >= 0 && left + columns.size <= planes.width) continue;
        const Index row = top + *argmax / columns.size, column = left + *argmax % columns.size;
        if (row < 0 || row >= planes.height || column < 0 || column >= planes.width) return false;
      }
  return true;
}

void max_pool_backward(nb::handle dy_, nb::handle argmax_, nb::handle out_, Pair size, Pair stride, Pair padding) {
  Arguments arguments("max_pool_backward");
  const Array& dy = arguments.array("dy", dy_);
  const Array& out = arguments.typed(dy, "out", out_, Access::write);
  out.expect_dimensions(3, kPlanes);
  const Planes planes{1, 1, out.size(0), out.size(1), out.size(2)};
  const Windows windows = arguments.windows(planes, size, stride, padding);
  arguments.expect_small(windows);
  arguments.expect_met(planes, windows);
  dy.expect_shape({planes.channels, windows.rows.count, windows.columns.count});
  const unsigned char* const argmax = arguments.argmax(dy, argmax_, Access::read);
  if (!all_inside(argmax, planes, windows))
    throw nb::value_error(
        "max_pool_backward: expected argmax inside its window and the image, got one outside. "
        "Pass the one that max_pool_forward wrote.");
  arguments.run(dy, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.max_pool_backward(dy.data<T>(), argmax, out.data<T>(), planes, windows);
  });
}

}  // namespace
}  // namespace xhat

NB_MODULE(_native, m) {
  using namespace nb::literals;
  m.def("variants", xhat::variants);
  m.def("use", xhat::use);
  m.def("set_num_threads", xhat::set_num_threads);
  m.def("get_num_threads", xhat::get_num_threads);
  // None gets our own message, or stands for no parameter.
  m.def("rows_forward", xhat::rows_forward, "x"_a.none(), "gamma"_a.none(), "beta"_a.none(), "eps"_a, "centred"_a,
        "out"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "var"_a.none(), "rstd"_a.none());
  m.def("rows_backward", xhat::rows_backward, "dy"_a.none(), "x"_a.none(), "gamma"_a.none(), "mean"_a.none(),
        "mean_low"_a.none(), "rstd"_a.none(), "centred"_a, "out"_a.none(), "dgamma"_a.none(), "dbeta"_a.none());
  m.def("channels_statistics", xhat::channels_statistics, "x"_a.none(), "weights"_a.none(), "total"_a, "eps"_a,
        "mean"_a.none(), "mean_low"_a.none(), "var"_a.none(), "rstd"_a.none());
  m.def("channels_forward", xhat::channels_forward, "x"_a.none(), "weights"_a.none(), "total"_a, "gamma"_a.none(),
        "beta"_a.none(), "eps"_a, "out"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "var"_a.none(),
        "rstd"_a.none());
  m.def("channels_apply", xhat::channels_apply, "x"_a.none(), "weights"_a.none(), "gamma"_a.none(), "beta"_a.none(),
        "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "out"_a.none());
  m.def("channels_sums", xhat::channels_sums, "dy"_a.none(), "x"_a.none(), "weights"_a.none(), "mean"_a.none(),
        "mean_low"_a.none(), "rstd"_a.none(), "dgamma"_a.none(), "dbeta"_a.none());
  m.def("channels_gradient", xhat::channels_gradient, "dy"_a.none(), "x"_a.none(), "weights"_a.none(), "total"_a,
        "gamma"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "dgamma"_a.none(), "dbeta"_a.none(),
        "out"_a.none());
  m.def("channels_backward", xhat::channels_backward, "dy"_a.none(), "x"_a.none(), "weights"_a.none(), "total"_a,
        "gamma"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "out"_a.none(), "dgamma"_a.none(),
        "dbeta"_a.none());
  m.def("channels_apply_backward", xhat::channels_apply_backward, "dy"_a.none(), "x"_a.none(), "weights"_a.none(),
        "gamma"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "out"_a.none(), "dgamma"_a.none(),
        "dbeta"_a.none());
  m.def("im2col", xhat::im2col, "x"_a.none(), "out"_a.none(), "stride"_a, "padding"_a);
  m.def("col2im", xhat::col2im, "columns"_a.none(), "out"_a.none(), "stride"_a, "padding"_a);
  m.def("max_pool_forward", xhat::max_pool_forward, "x"_a.none(), "out"_a.none(), "argmax"_a.none(), "size"_a,
        "stride"_a, "padding"_a);
  m.def("max_pool_backward", xhat::max_pool_backward, "dy"_a.none(), "argmax"_a.none(), "out"_a.none(), "size"_a,
        "stride"_a, "padding"_a);
}
