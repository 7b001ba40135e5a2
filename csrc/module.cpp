// The Python module xhat._native: checks the arguments, releases the interpreter lock, calls the variant in use.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <unistd.h>

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
  static constexpr int kMost = 9;

  const Array& add(const char* name, nb::handle object, Access access) {
    return arrays_[count_++].emplace(who_, name, object, access);
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

void channels_forward(nb::handle x_, nb::handle gamma_, nb::handle beta_, double eps, nb::handle out_,
                      nb::handle mean_, nb::handle mean_low_, nb::handle var_, nb::handle rstd_) {
  Arguments arguments("channels_forward");
  arguments.expect_eps(eps);
  const Array& x = arguments.x(x_, 3, kChannels);
  const Index channels = x.size(1);
  const double* const gamma = arguments.entries_or_none("gamma", gamma_, channels);
  const double* const beta = arguments.entries_or_none("beta", beta_, channels);
  const Array& out = arguments.like(x, "out", out_, Access::write);
  const Statistics statistics = arguments.statistics(mean_, mean_low_, var_, rstd_, channels);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_forward(x.data<T>(), gamma, beta, eps, out.data<T>(), statistics, x.size(0), channels, x.size(2));
  });
}

void channels_apply(nb::handle x_, nb::handle gamma_, nb::handle beta_, nb::handle mean_, nb::handle rstd_,
                    nb::handle out_) {
  Arguments arguments("channels_apply");
  const Array& x = arguments.x(x_, 3, kChannels);
  const Index channels = x.size(1);
  const double* const gamma = arguments.entries_or_none("gamma", gamma_, channels);
  const double* const beta = arguments.entries_or_none("beta", beta_, channels);
  const Centre centre{arguments.entries("mean", mean_, channels), nullptr,
                      arguments.entries("rstd", rstd_, channels)};
  const Array& out = arguments.like(x, "out", out_, Access::write);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_apply(x.data<T>(), gamma, beta, centre, out.data<T>(), x.size(0), channels, x.size(2));
  });
}

void channels_backward(nb::handle dy_, nb::handle x_, nb::handle gamma_, nb::handle mean_, nb::handle mean_low_,
                       nb::handle rstd_, nb::handle out_, nb::handle dgamma_, nb::handle dbeta_) {
  Arguments arguments("channels_backward");
  const Array& x = arguments.x(x_, 3, kChannels);
  const Index channels = x.size(1);
  const Array& dy = arguments.like(x, "dy", dy_);
  const double* const gamma = arguments.entries_or_none("gamma", gamma_, channels);
  const Centre centre{arguments.entries("mean", mean_, channels), arguments.entries("mean_low", mean_low_, channels),
                      arguments.entries("rstd", rstd_, channels)};
  const Array& out = arguments.like(x, "out", out_, Access::write);
  double* const dgamma = arguments.entries("dgamma", dgamma_, channels, Access::write);
  double* const dbeta = arguments.entries("dbeta", dbeta_, channels, Access::write);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_backward(dy.data<T>(), x.data<T>(), gamma, centre, out.data<T>(), dgamma, dbeta, x.size(0),
                              channels, x.size(2));
  });
}

void channels_apply_backward(nb::handle dy_, nb::handle x_, nb::handle gamma_, nb::handle mean_, nb::handle rstd_,
                             nb::handle out_, nb::handle dgamma_, nb::handle dbeta_) {
  Arguments arguments("channels_apply_backward");
  const Array& x = arguments.x(x_, 3, kChannels);
  const Index channels = x.size(1);
  const Array& dy = arguments.like(x, "dy", dy_);
  const double* const gamma = arguments.entries_or_none("gamma", gamma_, channels);
  const Centre centre{arguments.entries("mean", mean_, channels), nullptr,
                      arguments.entries("rstd", rstd_, channels)};
  const Array& out = arguments.like(x, "out", out_, Access::write);
  double* const dgamma = arguments.entries("dgamma", dgamma_, channels, Access::write);
  double* const dbeta = arguments.entries("dbeta", dbeta_, channels, Access::write);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_apply_backward(dy.data<T>(), x.data<T>(), gamma, centre, out.data<T>(), dgamma, dbeta, x.size(0),
                                    channels, x.size(2));
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
  m.def("channels_forward", xhat::channels_forward, "x"_a.none(), "gamma"_a.none(), "beta"_a.none(), "eps"_a,
        "out"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "var"_a.none(), "rstd"_a.none());
  m.def("channels_apply", xhat::channels_apply, "x"_a.none(), "gamma"_a.none(), "beta"_a.none(), "mean"_a.none(),
        "rstd"_a.none(), "out"_a.none());
  m.def("channels_backward", xhat::channels_backward, "dy"_a.none(), "x"_a.none(), "gamma"_a.none(), "mean"_a.none(),
        "mean_low"_a.none(), "rstd"_a.none(), "out"_a.none(), "dgamma"_a.none(), "dbeta"_a.none());
  m.def("channels_apply_backward", xhat::channels_apply_backward, "dy"_a.none(), "x"_a.none(), "gamma"_a.none(),
        "mean"_a.none(), "rstd"_a.none(), "out"_a.none(), "dgamma"_a.none(), "dbeta"_a.none());
}
