// The norms on small arrays: one call judges what it is given, allocates and computes.
//
// It answers None wherever anything is not as in the usual call (another type, shape, layout or setting, data out of
// range), and has then done nothing: the layers' own way judges again, and has the words for it.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <optional>

#include <nanobind/nanobind.h>

#include "arguments.hpp"
#include "bindings.hpp"
#include "numpy.hpp"
#include "variants.hpp"

namespace nb = nanobind;

namespace xhat {
namespace {

constexpr Index kMostBytes = Index{1} << 18;    // beyond it, the cost of a call is a small part of the work
constexpr Index kLockedBytes = Index{1} << 14;    // up to it, letting the interpreter lock go costs more than it gives

struct Sizes {
  int count;
  const Py_intptr_t* first;
};

PyArrayObject* array_of(nb::handle object) { return reinterpret_cast<PyArrayObject*>(object.ptr()); }
Sizes sizes_of(nb::handle array) { return {PyArray_NDIM(array_of(array)), PyArray_DIMS(array_of(array))}; }

template <class T>
T* data_of(nb::handle array) {
  return static_cast<T*>(PyArray_DATA(array_of(array)));
}

bool is_type(nb::handle array, int type) { return PyArray_TYPE(array_of(array)) == type; }

// An array, not of a subclass, of native float32 or float64, C-contiguous and aligned.
bool is_plain(nb::handle object) {
  if (!PyArray_CheckExact(object.ptr())) return false;
  PyArrayObject* const array = array_of(object);
  const int type = PyArray_TYPE(array);
  if (type != NPY_FLOAT && type != NPY_DOUBLE) return false;
  return PyArray_ISNOTSWAPPED(array) && PyArray_IS_C_CONTIGUOUS(array) && PyArray_ISALIGNED(array);
}

bool same(Sizes a, Sizes b) { return a.count == b.count && std::equal(a.first, a.first + a.count, b.first); }

// An x to normalize: not empty, and small.
bool is_input(nb::handle x) {
  if (!is_plain(x)) return false;
  const Index bytes = PyArray_NBYTES(array_of(x));
  return bytes > 0 && bytes <= kMostBytes;
}

bool is_statistic(nb::handle object, Sizes sizes) {
  return is_plain(object) && is_type(object, NPY_DOUBLE) && same(sizes_of(object), sizes);
}

bool is_none_or_parameter(nb::handle object, Sizes sizes) {
  return object.is_none() || (is_plain(object) && same(sizes_of(object), sizes));
}

bool is_eps(nb::handle object, double& eps) {
  if (!PyFloat_CheckExact(object.ptr())) return false;
  eps = PyFloat_AsDouble(object.ptr());
  return std::isfinite(eps) && eps >= 0;
}

bool find_integer(nb::handle object, long& value) {
  if (!PyLong_CheckExact(object.ptr())) return false;
  int overflow = 0;
  value = PyLong_AsLongAndOverflow(object.ptr(), &overflow);
  return overflow == 0;
}

// An axis of an array of `dimensions` axes, counted from the front.
bool find_axis(nb::handle object, int dimensions, int& axis) {
  long value;
  if (!find_integer(object, value) || value < -dimensions || value >= dimensions) return false;
  axis = static_cast<int>(value < 0 ? value + dimensions : value);
  return true;
}

Index product(const Py_intptr_t* first, const Py_intptr_t* last) {
  Index result = 1;
  for (; first != last; ++first) result *= *first;
  return result;
}

nb::object new_array(Sizes sizes, int type) {
  PyObject* const array = PyArray_SimpleNew(sizes.count, const_cast<Py_intptr_t*>(sizes.first), type);
  if (!array) throw nb::python_error();
  return nb::steal(array);
}

// A parameter in float64: its own memory, or a copy that lives as long as this.
class Wide {
 public:
  explicit Wide(nb::handle parameter) {
    if (parameter.is_none()) return;
    values_ = data_of<double>(parameter);
    if (is_type(parameter, NPY_DOUBLE)) return;
    const Index count = PyArray_SIZE(array_of(parameter));
    const float* const from = data_of<float>(parameter);
    std::copy(from, from + count, copy_.emplace(count).data());
    values_ = copy_->data();
  }

  const double* values() const { return values_; }

 private:
  std::optional<Workspace> copy_;
  const double* values_ = nullptr;
};

// The gradient of a parameter, summed in float64 and given in its type; None if there is no parameter.
class Total {
 public:
  Total(nb::handle parameter, Sizes sizes) : count_(product(sizes.first, sizes.first + sizes.count)) {
    if (!parameter.is_none()) result_ = new_array(sizes, PyArray_TYPE(array_of(parameter)));
    if (parameter.is_none() || is_type(parameter, NPY_FLOAT)) rounded_.emplace(count_);
  }

  double* sums() { return rounded_ ? rounded_->data() : data_of<double>(result_); }

  nb::object result() const {
    if (!result_.is_valid()) return nb::none();
    if (rounded_) {
      const double* const sums = rounded_->data();
      float* const to = data_of<float>(result_);
      for (Index i = 0; i < count_; ++i) to[i] = static_cast<float>(sums[i]);
    }
    return result_;
  }

 private:
  Index count_;
  nb::object result_;
  std::optional<Workspace> rounded_;
};

// How x is seen: what its parameters and statistics must be like, and the loop over it.
struct ChannelsView {
  Sizes parameters, statistics;
  ChannelsShape shape;
  int axis;

  bool find(nb::handle x, nb::handle axis_) {
    const auto [dimensions, sizes] = sizes_of(x);
    if (!find_axis(axis_, dimensions, axis)) return false;
    parameters = statistics = {1, sizes + axis};
    shape = {product(sizes, sizes + axis), sizes[axis], product(sizes + axis + 1, sizes + dimensions)};
    return count() > 1;
  }

  Index count() const { return shape.outer * shape.inner; }
  Weights weights() const { return {nullptr, static_cast<double>(count())}; }

  template <class T>
  void forward(const Kernels<T>& kernels, const T* x, const double* gamma, const double* beta, double eps, T* y,
               Statistics statistics) const {
    kernels.channels_forward(x, weights(), gamma, beta, eps, y, statistics, shape);
  }

  template <class T>
  void backward(const Kernels<T>& kernels, const T* dy, const T* x, const double* gamma, Centre centre, T* dx,
                double* dgamma, double* dbeta) const {
    kernels.channels_backward(dy, x, weights(), gamma, centre, dx, dgamma, dbeta, shape);
  }
};

struct RowsView {
  Sizes parameters, statistics;
  RowsShape shape;
  bool centred = true;
  Py_intptr_t sizes_of_statistics[NPY_MAXDIMS];

  template <class T>
  void forward(const Kernels<T>& kernels, const T* x, const double* gamma, const double* beta, double eps, T* y,
               Statistics statistics) const {
    kernels.rows_forward(x, gamma, beta, eps, centred, y, statistics, shape);
  }

  template <class T>
  void backward(const Kernels<T>& kernels, const T* dy, const T* x, const double* gamma, Centre centre, T* dx,
                double* dgamma, double* dbeta) const {
    kernels.rows_backward(dy, x, gamma, centre, centred, dx, dgamma, dbeta, shape);
  }
};

// Rows are what the last axes hold; axis is the last one, or a tuple of the last ones in order.
struct LastAxesView : RowsView {
  int kept;

  bool find(nb::handle x, nb::handle axis) {
    const auto [dimensions, sizes] = sizes_of(x);
    int first;
    if (PyTuple_CheckExact(axis.ptr())) {
      const Py_ssize_t count = PyTuple_Size(axis.ptr());
      if (count < 1 || count > dimensions) return false;
      kept = dimensions - static_cast<int>(count);
      for (int i = kept; i < dimensions; ++i)
        if (!find_axis(PyTuple_GetItem(axis.ptr(), i - kept), dimensions, first) || first != i) return false;
    } else if (!find_axis(axis, dimensions, kept) || kept != dimensions - 1) {
      return false;
    }
    std::copy(sizes, sizes + kept, sizes_of_statistics);
    std::fill(sizes_of_statistics + kept, sizes_of_statistics + dimensions, 1);
    parameters = {dimensions - kept, sizes + kept};
    statistics = {dimensions, sizes_of_statistics};
    const Index columns = product(sizes + kept, sizes + dimensions);
    shape = {product(sizes, sizes + kept), columns, 1, columns};
    return true;
  }

  nb::object axes() const {
    const int dimensions = statistics.count;
    PyObject* const result = PyTuple_New(dimensions - kept);
    if (!result) throw nb::python_error();
    for (int i = kept; i < dimensions; ++i) PyTuple_SetItem(result, i - kept, PyLong_FromLong(i));
    return nb::steal(result);
  }
};

// Rows are groups of channels of each sample, or each channel of it; channels are on axis 1.
struct GroupsView : RowsView {
  long groups;

  bool find(nb::handle x, nb::handle groups_, nb::handle axis) {
    return find_integer(groups_, groups) && groups > 0 && find(x, axis);
  }

  bool find_each(nb::handle x, nb::handle axis) {
    groups = sizes_of(x).count < 2 ? 1 : sizes_of(x).first[1];
    return find(x, axis);
  }

 private:
  bool find(nb::handle x, nb::handle axis_) {
    const auto [dimensions, sizes] = sizes_of(x);
    int axis;
    if (dimensions < 2 || !find_axis(axis_, dimensions, axis) || axis != 1 || sizes[1] % groups != 0) return false;
    sizes_of_statistics[0] = sizes[0];
    sizes_of_statistics[1] = groups;
    parameters = {1, sizes + 1};
    statistics = {2, sizes_of_statistics};
    const Index entries = sizes[1] / groups;
    shape = {sizes[0] * groups, entries * product(sizes + 2, sizes + dimensions), groups, entries};
    return shape.columns > 1;
  }
};

bool all_finite(nb::handle array) {
  const double* const values = data_of<double>(array);
  return std::all_of(values, values + PyArray_SIZE(array_of(array)), [](double value) { return std::isfinite(value); });
}

// Calls function(kernels, zero) for the type of x; zero is of that type. It must not look at Python's objects: the
// interpreter lock may be released meanwhile.
template <class Function>
void run(nb::handle x, const Function& function) {
  const Variant& variant = variant_in_use();
  const bool is_float = is_type(x, NPY_FLOAT);
  const auto work = [&] {
    if (is_float)
      function(variant.float32, float{});
    else
      function(variant.float64, double{});
  };
  if (PyArray_NBYTES(array_of(x)) > kLockedBytes)
    without_lock(work);
  else
    work();
}

struct Normalized {
  nb::object y, mean, mean_low, var, rstd;

  // y, and what to save for backward
  template <class... Rest>
  nb::object with(nb::handle x, nb::handle gamma, nb::handle beta, const Rest&... rest) const {
    return nb::make_tuple(y, nb::make_tuple(x, gamma, beta, mean, mean_low, var, rstd, rest...));
  }
};

// False if the call is not a usual one. x has been judged.
template <class View>
bool forward(const View& view, nb::handle x, nb::handle gamma, nb::handle beta, nb::handle eps_, Normalized& result) {
  double eps;
  if (!is_eps(eps_, eps) || !is_none_or_parameter(gamma, view.parameters) ||
      !is_none_or_parameter(beta, view.parameters))
    return false;
  auto& [y, mean, mean_low, var, rstd] = result;
  y = new_array(sizes_of(x), PyArray_TYPE(array_of(x)));
  for (nb::object* statistic : {&mean, &mean_low, &var, &rstd}) *statistic = new_array(view.statistics, NPY_DOUBLE);
  const Wide wide_gamma(gamma), wide_beta(beta);
  const Statistics statistics{data_of<double>(mean), data_of<double>(mean_low), data_of<double>(var),
                              data_of<double>(rstd)};
  const void* const from = data_of<void>(x);
  void* const to = data_of<void>(y);
  run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    view.forward(kernels, static_cast<const T*>(from), wide_gamma.values(), wide_beta.values(), eps,
                 static_cast<T*>(to), statistics);
  });
  return is_type(y, NPY_FLOAT) || all_finite(var);
}

// (dx, dgamma, dbeta), or None if the call is not a usual one. saved: x, which has been judged, gamma, beta, mean,
// mean_low, var, rstd. What is not centred has None for a mean.
template <class View>
nb::object backward(const View& view, nb::handle dy, const nb::args& saved, bool centred = true) {
  const nb::handle x = saved[0], gamma = saved[1], beta = saved[2], mean = saved[3], mean_low = saved[4],
                   var = saved[5], rstd = saved[6];
  const bool usual = is_plain(dy) && is_type(dy, PyArray_TYPE(array_of(x))) && same(sizes_of(dy), sizes_of(x)) &&
                     is_none_or_parameter(gamma, view.parameters) && is_none_or_parameter(beta, view.parameters) &&
                     (centred ? is_statistic(mean, view.statistics) && is_statistic(mean_low, view.statistics)
                              : mean.is_none() && mean_low.is_none()) &&
                     is_statistic(var, view.statistics) && is_statistic(rstd, view.statistics);
  if (!usual) return nb::none();
  const nb::object dx = new_array(sizes_of(x), PyArray_TYPE(array_of(x)));
  const Wide wide_gamma(gamma);
  Total dgamma(gamma, view.parameters), dbeta(beta, view.parameters);
  std::optional<Workspace> zeros;
  if (!centred) {
    const Index count = PyArray_SIZE(array_of(rstd));
    std::fill_n(zeros.emplace(count).data(), count, 0.0);
  }
  const Centre centre{centred ? data_of<double>(mean) : zeros->data(),
                      centred ? data_of<double>(mean_low) : zeros->data(), data_of<double>(rstd)};
  const void *const above = data_of<void>(dy), *const from = data_of<void>(x);
  void* const to = data_of<void>(dx);
  double *const dgamma_sums = dgamma.sums(), *const dbeta_sums = dbeta.sums();
  run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    view.backward(kernels, static_cast<const T*>(above), static_cast<const T*>(from), wide_gamma.values(), centre,
                  static_cast<T*>(to), dgamma_sums, dbeta_sums);
  });
  return nb::make_tuple(dx, dgamma.result(), dbeta.result());
}

nb::object channels_forward(nb::handle x, nb::handle gamma, nb::handle beta, nb::handle eps, nb::handle axis) {
  ChannelsView view;
  Normalized result;
  if (!is_input(x) || !view.find(x, axis) || !forward(view, x, gamma, beta, eps, result)) return nb::none();
  return result.with(x, gamma, beta, view.count(), view.axis, nb::none());
}

nb::object rows_forward(nb::handle x, nb::handle gamma, nb::handle beta, nb::handle eps, nb::handle axis,
                        bool centred) {
  LastAxesView view;
  Normalized result;
  view.centred = centred;
  if (!is_input(x) || !view.find(x, axis) || !forward(view, x, gamma, beta, eps, result)) return nb::none();
  return result.with(x, gamma, beta, view.axes());
}

nb::object groups_forward(nb::handle x, nb::handle gamma, nb::handle beta, nb::handle eps, nb::handle groups,
                          nb::handle axis) {
  GroupsView view;
  Normalized result;
  if (!is_input(x) || !view.find(x, groups, axis) || !forward(view, x, gamma, beta, eps, result)) return nb::none();
  return result.with(x, gamma, beta, view.groups, 1);
}

nb::object instances_forward(nb::handle x, nb::handle gamma, nb::handle beta, nb::handle eps, nb::handle axis) {
  GroupsView view;
  Normalized result;
  if (!is_input(x) || !view.find_each(x, axis) || !forward(view, x, gamma, beta, eps, result)) return nb::none();
  return result.with(x, gamma, beta, 1);
}

// Whether a saved count is that of the values of each channel.
bool is_count(nb::handle object, Index count) {
  long value;
  if (PyFloat_CheckExact(object.ptr())) return PyFloat_AsDouble(object.ptr()) == static_cast<double>(count);
  return find_integer(object, value) && value == count;
}

// What a cache brings back may be of any number.
nb::object channels_backward(nb::handle dy, nb::args saved) {
  if (saved.size() != 10) return nb::none();
  ChannelsView view;
  const nb::handle x = saved[0], weights = saved[9];
  if (!weights.is_none() || !is_input(x) || !view.find(x, saved[8]) || !is_count(saved[7], view.count()))
    return nb::none();
  return backward(view, dy, saved);
}

nb::object rows_backward(nb::handle dy, bool centred, nb::args saved) {
  if (saved.size() != 8) return nb::none();
  LastAxesView view;
  const nb::handle x = saved[0];
  if (!is_input(x) || !view.find(x, saved[7])) return nb::none();
  view.centred = centred;
  return backward(view, dy, saved, centred);
}

nb::object groups_backward(nb::handle dy, nb::args saved) {
  if (saved.size() != 9) return nb::none();
  GroupsView view;
  const nb::handle x = saved[0];
  if (!is_input(x) || !view.find(x, saved[7], saved[8])) return nb::none();
  return backward(view, dy, saved);
}

nb::object instances_backward(nb::handle dy, nb::args saved) {
  if (saved.size() != 8) return nb::none();
  GroupsView view;
  const nb::handle x = saved[0];
  if (!is_input(x) || !view.find_each(x, saved[7])) return nb::none();
  return backward(view, dy, saved);
}

}  // namespace

void bind_small(nb::module_& m) {
  using namespace nb::literals;
  m.def("small_channels_forward", channels_forward, "x"_a.none(), "gamma"_a.none(), "beta"_a.none(), "eps"_a.none(),
        "axis"_a.none());
  m.def("small_rows_forward", rows_forward, "x"_a.none(), "gamma"_a.none(), "beta"_a.none(), "eps"_a.none(),
        "axis"_a.none(), "centred"_a);
  m.def("small_groups_forward", groups_forward, "x"_a.none(), "gamma"_a.none(), "beta"_a.none(), "eps"_a.none(),
        "groups"_a.none(), "axis"_a.none());
  m.def("small_instances_forward", instances_forward, "x"_a.none(), "gamma"_a.none(), "beta"_a.none(),
        "eps"_a.none(), "axis"_a.none());
  m.def("small_channels_backward", channels_backward, "dy"_a.none(), "saved"_a);
  m.def("small_rows_backward", rows_backward, "dy"_a.none(), "centred"_a, "saved"_a);
  m.def("small_groups_backward", groups_backward, "dy"_a.none(), "saved"_a);
  m.def("small_instances_backward", instances_backward, "dy"_a.none(), "saved"_a);
}

}  // namespace xhat
