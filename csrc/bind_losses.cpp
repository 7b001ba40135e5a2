// Dropout and the losses, as Python calls them.
#include "arguments.hpp"
#include "bindings.hpp"

namespace xhat {
namespace {

constexpr char kScores[] = "(rows, classes)";

void softmax(nb::handle scores_, nb::handle out_) {
  Arguments arguments("softmax");
  const Array& scores = arguments.array("scores", scores_);
  scores.expect_dimensions(2, kScores);
  const Array& out = arguments.like(scores, "out", out_, Access::write);
  arguments.run(scores, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.softmax(scores.data<T>(), out.data<T>(), scores.size(0), scores.size(1));
  });
}

void softmax_cross_entropy(nb::handle scores_, nb::handle labels_, nb::handle out_, nb::handle losses_) {
  Arguments arguments("softmax_cross_entropy");
  const Array& scores = arguments.array("scores", scores_);
  scores.expect_dimensions(2, kScores);
  const Index rows = scores.size(0), classes = scores.size(1);
  const std::vector<long long> labels = arguments.labels(labels_, rows, classes);
  const Array& out = arguments.like(scores, "out", out_, Access::write);
  double* const losses = arguments.entries("losses", losses_, rows, Access::write);
  arguments.run(scores, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.softmax_cross_entropy(scores.data<T>(), labels.data(), out.data<T>(), losses, rows, classes);
  });
}

void dropout(nb::handle x_, unsigned long long key, double rate, nb::handle out_) {
  Arguments arguments("dropout");
  const Array& x = arguments.array("x", x_);
  const Array& out = arguments.like(x, "out", out_, Access::write);
  const Dropping dropping = arguments.dropping(key, rate);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.dropout(x.data<T>(), dropping, out.data<T>(), x.bytes() / static_cast<Index>(sizeof(T)));
  });
}

}  // namespace

void bind_losses(nb::module_& m) {
  using namespace nb::literals;
  // None gets our own message.
  m.def("softmax", softmax, "scores"_a.none(), "out"_a.none());
  m.def("softmax_cross_entropy", softmax_cross_entropy, "scores"_a.none(), "labels"_a.none(), "out"_a.none(),
        "losses"_a.none());
  m.def("dropout", dropout, "x"_a.none(), "key"_a, "rate"_a, "out"_a.none());
}

}  // namespace xhat
