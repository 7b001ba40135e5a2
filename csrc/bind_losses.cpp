// Dropout and the losses, as Python calls them.
#include "arguments.hpp"
#include "bindings.hpp"

namespace xhat {
namespace {

constexpr long long kWordValues = 1LL << 32;

void dropout(nb::handle x_, unsigned long long key, double rate, nb::handle out_) {
  Arguments arguments("dropout");
  const Array& x = arguments.array("x", x_);
  const Array& out = arguments.like(x, "out", out_, Access::write);
  if (!(rate >= 0 && rate <= 1))
    throw nb::value_error(("dropout: expected a rate from 0 to 1, got " + nb::cast<std::string>(nb::repr(nb::float_(rate))) +
                           ". It is the share that is dropped.").c_str());
  // where all is dropped there is nothing to scale
  const Dropping dropping{key, std::llrint(rate * static_cast<double>(kWordValues)), rate < 1 ? 1 / (1 - rate) : 1.0};
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.dropout(x.data<T>(), dropping, out.data<T>(), x.bytes() / static_cast<Index>(sizeof(T)));
  });
}

}  // namespace

void bind_losses(nb::module_& m) {
  using namespace nb::literals;
  // None gets our own message.
  m.def("dropout", dropout, "x"_a.none(), "key"_a, "rate"_a, "out"_a.none());
}

}  // namespace xhat
