// The loops over rows and channels, as Python calls them.
#include "arguments.hpp"
#include "bindings.hpp"

namespace xhat {
namespace {

constexpr char kRows[] = "(rows, columns)";

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
  arguments.run_norm(x, [&](const auto& kernels, auto zero) {
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
  double* const dgamma = arguments.lines("dgamma", dgamma_, x, shape);
  double* const dbeta = arguments.lines("dbeta", dbeta_, x, shape);
  arguments.run_norm(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.rows_backward(dy.data<T>(), x.data<T>(), gamma, centre, centred, out.data<T>(), dgamma, dbeta, shape);
  });
}

void channels_statistics(nb::handle x_, nb::handle weights_, double total, double eps, nb::handle mean_,
                         nb::handle mean_low_, nb::handle var_, nb::handle rstd_) {
  Channels arguments("channels_statistics", x_, weights_, total);
  arguments.expect_eps(eps);
  const Statistics statistics = arguments.statistics(mean_, mean_low_, var_, rstd_, arguments.shape.channels);
  arguments.run_norm(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_statistics(arguments.x.template data<T>(), arguments.weights, eps, statistics, arguments.shape);
  });
}

void channels_forward(nb::handle x_, nb::handle weights_, double total, nb::handle gamma_, nb::handle beta_, double eps,
                      nb::handle out_, nb::handle mean_, nb::handle mean_low_, nb::handle var_, nb::handle rstd_) {
  Channels arguments("channels_forward", x_, weights_, total);
  arguments.expect_eps(eps);
  const double* const gamma = arguments.parameter("gamma", gamma_);
  const double* const beta = arguments.parameter("beta", beta_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  const Statistics statistics = arguments.statistics(mean_, mean_low_, var_, rstd_, arguments.shape.channels);
  arguments.run_norm(arguments.x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.channels_forward(arguments.x.template data<T>(), arguments.weights, gamma, beta, eps, out.data<T>(),
                             statistics, arguments.shape);
  });
}

void channels_apply(nb::handle x_, nb::handle weights_, nb::handle gamma_, nb::handle beta_, nb::handle mean_,
                    nb::handle mean_low_, nb::handle rstd_, nb::handle out_) {
  Channels arguments("channels_apply", x_, weights_);
  const double* const gamma = arguments.parameter("gamma", gamma_);
  const double* const beta = arguments.parameter("beta", beta_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  arguments.run_norm(arguments.x, [&](const auto& kernels, auto zero) {
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
  arguments.run_norm(arguments.x, [&](const auto& kernels, auto zero) {
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
  const double* const gamma = arguments.parameter("gamma", gamma_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  const double* const dgamma = arguments.each("dgamma", dgamma_);
  const double* const dbeta = arguments.each("dbeta", dbeta_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  arguments.run_norm(arguments.x, [&](const auto& kernels, auto zero) {
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
  const double* const gamma = arguments.parameter("gamma", gamma_);
  const Centre centre = arguments.centre(mean_, mean_low_, rstd_);
  const Array& out = arguments.like(arguments.x, "out", out_, Access::write);
  double* const dgamma = arguments.each("dgamma", dgamma_, Access::write);
  double* const dbeta = arguments.each("dbeta", dbeta_, Access::write);
  arguments.run_norm(arguments.x, [&](const auto& kernels, auto zero) {
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

}  // namespace

void bind_norms(nb::module_& m) {
  using namespace nb::literals;
  // None gets our own message, or stands for no parameter.
  m.def("rows_forward", rows_forward, "x"_a.none(), "gamma"_a.none(), "beta"_a.none(), "eps"_a, "centred"_a,
        "out"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "var"_a.none(), "rstd"_a.none());
  m.def("rows_backward", rows_backward, "dy"_a.none(), "x"_a.none(), "gamma"_a.none(), "mean"_a.none(),
        "mean_low"_a.none(), "rstd"_a.none(), "centred"_a, "out"_a.none(), "dgamma"_a.none(), "dbeta"_a.none());
  m.def("channels_statistics", channels_statistics, "x"_a.none(), "weights"_a.none(), "total"_a, "eps"_a,
        "mean"_a.none(), "mean_low"_a.none(), "var"_a.none(), "rstd"_a.none());
  m.def("channels_forward", channels_forward, "x"_a.none(), "weights"_a.none(), "total"_a, "gamma"_a.none(),
        "beta"_a.none(), "eps"_a, "out"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "var"_a.none(),
        "rstd"_a.none());
  m.def("channels_apply", channels_apply, "x"_a.none(), "weights"_a.none(), "gamma"_a.none(), "beta"_a.none(),
        "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "out"_a.none());
  m.def("channels_sums", channels_sums, "dy"_a.none(), "x"_a.none(), "weights"_a.none(), "mean"_a.none(),
        "mean_low"_a.none(), "rstd"_a.none(), "dgamma"_a.none(), "dbeta"_a.none());
  m.def("channels_gradient", channels_gradient, "dy"_a.none(), "x"_a.none(), "weights"_a.none(), "total"_a,
        "gamma"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "dgamma"_a.none(), "dbeta"_a.none(),
        "out"_a.none());
  m.def("channels_backward", channels_backward, "dy"_a.none(), "x"_a.none(), "weights"_a.none(), "total"_a,
        "gamma"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "out"_a.none(), "dgamma"_a.none(),
        "dbeta"_a.none());
  m.def("channels_apply_backward", channels_apply_backward, "dy"_a.none(), "x"_a.none(), "weights"_a.none(),
        "gamma"_a.none(), "mean"_a.none(), "mean_low"_a.none(), "rstd"_a.none(), "out"_a.none(), "dgamma"_a.none(),
        "dbeta"_a.none());
}

}  // namespace xhat
