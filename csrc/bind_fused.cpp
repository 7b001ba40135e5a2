// The norms with what stands beside them, as Python calls them.
#include "arguments.hpp"
#include "bindings.hpp"

namespace xhat {
namespace {

constexpr char kRows[] = "(rows, columns)";

// What is added to x, and where the sum goes: into an array of its own, into x itself or into `added` itself.
template <class T>
Addition<T> addition_of(const Array* added, const Array* total, const RowsShape& shape) {
  if (!added) return {};
  return {added->data<T>(), added->dimensions() == 1 ? 0 : shape.columns, total->data<T>()};
}

void rows_forward(nb::handle x_, nb::handle added_, nb::handle total_, nb::handle gamma_, nb::handle beta_, double eps,
                  bool centred, nb::handle epilogue_, nb::handle out_, nb::handle mean_, nb::handle mean_low_,
                  nb::handle var_, nb::handle rstd_) {
  Arguments arguments("fused.rows_forward");
  arguments.expect_eps(eps);
  const Epilogue epilogue = arguments.epilogue(epilogue_);
  if (added_.is_none() != total_.is_none())
    throw nb::value_error("fused.rows_forward: expected added and total together, got one of them. Pass an array that "
                          "the sum may be written to, such as x itself.");
  const bool adds = !added_.is_none();
  const auto access = [&](nb::handle object) { return adds && object.is(total_) ? Access::write : Access::read; };
  const Array& x = arguments.x(x_, 2, kRows, access(x_));
  RowsShape shape{x.size(0), x.size(1), 1, 1};
  const Array *added = nullptr, *total = nullptr;
  if (adds) {
    added = &arguments.typed(x, "added", added_, added_.is(x_) ? Access::read : access(added_));
    if (added->dimensions() == 1 && !added_.is(total_))
      added->expect_size(shape.columns);
    else
      added->expect_shape_of(x);
    total = x_.is(total_) ? &x : added_.is(total_) ? added : &arguments.like(x, "total", total_, Access::write);
  }
  const double* const gamma = arguments.lines_or_none("gamma", gamma_, x, shape);
  const double* const beta = arguments.lines_or_none("beta", beta_, x, shape);
  const Array& out = arguments.like(x, "out", out_, Access::write);
  const Statistics statistics = arguments.statistics(mean_, mean_low_, var_, rstd_, shape.rows);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.fused->rows_forward(x.data<T>(), addition_of<T>(added, total, shape), gamma, beta, eps, centred, epilogue,
                                out.data<T>(), statistics, shape);
  });
}

void rows_backward(nb::handle dy_, nb::handle x_, nb::handle also_, nb::handle gamma_, nb::handle beta_,
                   nb::handle mean_, nb::handle mean_low_, nb::handle rstd_, bool centred, nb::handle epilogue_,
                   nb::handle out_, nb::handle dgamma_, nb::handle dbeta_, nb::handle dbias_) {
  Arguments arguments("fused.rows_backward");
  const Epilogue epilogue = arguments.epilogue(epilogue_);
  const Array& x = arguments.x(x_, 2, kRows);
  RowsShape shape{x.size(0), x.size(1), 1, 1};
  const Array& dy = arguments.like(x, "dy", dy_);
  const Array* const also = also_.is_none() ? nullptr : &arguments.like(x, "also", also_);
  const double* const gamma = arguments.lines_or_none("gamma", gamma_, x, shape);
  const double* const beta = arguments.lines_or_none("beta", beta_, x, shape);
  const Centre centre{arguments.entries("mean", mean_, shape.rows),
                      arguments.entries("mean_low", mean_low_, shape.rows),
                      arguments.entries("rstd", rstd_, shape.rows)};
  const Array& out = arguments.like(x, "out", out_, Access::write);
  double* const dgamma = arguments.lines("dgamma", dgamma_, x, shape);
  double* const dbeta = arguments.lines("dbeta", dbeta_, x, shape);
  double* const dbias =
      dbias_.is_none() ? nullptr : arguments.entries("dbias", dbias_, shape.columns, Access::write);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.fused->rows_backward(dy.data<T>(), x.data<T>(), also ? also->data<T>() : nullptr, gamma, beta, centre,
                                 centred, epilogue, out.data<T>(), dgamma, dbeta, dbias, shape);
  });
}

void channels_forward(nb::handle x_, nb::handle weights_, double total, nb::handle gamma_, nb::handle beta_, double eps,
                      nb::handle epilogue_, nb::handle out_, nb::handle mean_, nb::handle mean_low_, nb::handle var_,
                      nb::handle rstd_) {
  const char* const who = "fused.channels_forward";
  const Epilogue epilogue = Arguments(who).epilogue(epilogue_);    // may run Python code: before any pointer is taken
  Channels arguments(who, x_, weights_, total);
  arguments.expect_eps(eps);
  const double* const gamma = arguments.parameter("gamma", gamma_);
  const double* const beta = arguments.parameter("beta", beta_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  const Statistics statistics = arguments.statistics(mean_, mean_low_, var_, rstd_, arguments.shape.channels);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.fused->channels_forward(arguments.x.template data<T>(), arguments.weights, gamma, beta, eps, epilogue,
                                    out.data<T>(), statistics, arguments.shape);
  });
}

void channels_apply(nb::handle x_, nb::handle weights_, nb::handle gamma_, nb::handle beta_, nb::handle mean_,
                    nb::handle mean_low_, nb::handle rstd_, nb::handle epilogue_, nb::handle out_) {
  const char* const who = "fused.channels_apply";
  const Epilogue epilogue = Arguments(who).epilogue(epilogue_);
  Channels arguments(who, x_, weights_);
  const double* const gamma = arguments.parameter("gamma", gamma_);
  const double* const beta = arguments.parameter("beta", beta_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.fused->channels_apply(arguments.x.template data<T>(), arguments.weights, gamma, beta, centre, epilogue,
                                  out.data<T>(), arguments.shape);
  });
}

template <class Kernel>
void backward(const char* who, Kernel kernel, nb::handle dy_, nb::handle x_, nb::handle weights_, double total,
              nb::handle gamma_, nb::handle beta_, nb::handle mean_, nb::handle mean_low_, nb::handle rstd_,
              nb::handle epilogue_, nb::handle out_, nb::handle dgamma_, nb::handle dbeta_) {
  const Epilogue epilogue = Arguments(who).epilogue(epilogue_);
  Channels arguments(who, x_, weights_, total);
  const Array& dy = arguments.like(arguments.x, "dy", dy_);
  const double* const gamma = arguments.parameter("gamma", gamma_);
  const double* const beta = arguments.parameter("beta", beta_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  double* const dgamma = arguments.each("dgamma", dgamma_, Access::write);
  double* const dbeta = arguments.each("dbeta", dbeta_, Access::write);
  arguments.run(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernel(*kernels.fused)(dy.data<T>(), arguments.x.template data<T>(), arguments.weights, gamma, beta, centre,
                           epilogue, out.data<T>(), dgamma, dbeta, arguments.shape);
  });
}

void channels_backward(nb::handle dy, nb::handle x, nb::handle weights, double total, nb::handle gamma, nb::handle beta,
                       nb::handle mean, nb::handle mean_low, nb::handle rstd, nb::handle epilogue, nb::handle out,
                       nb::handle dgamma, nb::handle dbeta) {
  backward("fused.channels_backward", [](const auto& kernels) { return kernels.channels_backward; }, dy, x, weights,
           total, gamma, beta, mean, mean_low, rstd, epilogue, out, dgamma, dbeta);
}

void channels_apply_backward(nb::handle dy, nb::handle x, nb::handle weights, nb::handle gamma, nb::handle beta,
                             nb::handle mean, nb::handle mean_low, nb::handle rstd, nb::handle epilogue, nb::handle out,
                             nb::handle dgamma, nb::handle dbeta) {
  backward("fused.channels_apply_backward", [](const auto& kernels) { return kernels.channels_apply_backward; }, dy, x,
           weights, 0, gamma, beta, mean, mean_low, rstd, epilogue, out, dgamma, dbeta);
}

}  // namespace

void bind_fused(nb::module_& m) {
  using namespace nb::literals;
  // None gets our own message, or stands for what is not given.
  m.def("fused_rows_forward", rows_forward, "x"_a.none(), "added"_a.none(), "total"_a.none(), "gamma"_a.none(),
        "beta"_a.none(), "eps"_a, "centred"_a, "epilogue"_a.none(), "out"_a.none(), "mean"_a.none(),
        "mean_low"_a.none(), "var"_a.none(), "rstd"_a.none());
  m.def("fused_rows_backward", rows_backward, "dy"_a.none(), "x"_a.none(), "also"_a.none(), "gamma"_a.none(),
        "beta"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "centred"_a, "epilogue"_a.none(),
        "out"_a.none(), "dgamma"_a.none(), "dbeta"_a.none(), "dbias"_a.none());
  m.def("fused_channels_forward", channels_forward, "x"_a.none(), "weights"_a.none(), "total"_a, "gamma"_a.none(),
        "beta"_a.none(), "eps"_a, "epilogue"_a.none(), "out"_a.none(), "mean"_a.none(), "mean_low"_a.none(),
        "var"_a.none(), "rstd"_a.none());
  m.def("fused_channels_apply", channels_apply, "x"_a.none(), "weights"_a.none(), "gamma"_a.none(), "beta"_a.none(),
        "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "epilogue"_a.none(), "out"_a.none());
  m.def("fused_channels_backward", channels_backward, "dy"_a.none(), "x"_a.none(), "weights"_a.none(), "total"_a,
        "gamma"_a.none(), "beta"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "epilogue"_a.none(),
        "out"_a.none(), "dgamma"_a.none(), "dbeta"_a.none());
  m.def("fused_channels_apply_backward", channels_apply_backward, "dy"_a.none(), "x"_a.none(), "weights"_a.none(),
        "gamma"_a.none(), "beta"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "epilogue"_a.none(),
        "out"_a.none(), "dgamma"_a.none(), "dbeta"_a.none());
}

}  // namespace xhat
