// The loops, compiled for one instruction set: XHAT_VARIANT is its name, set by the build.
#include "channels.hpp"
#include "convolution.hpp"
#include "copying.hpp"
#include "pooling.hpp"
#include "random.hpp"
#include "rows.hpp"
#include "softmax.hpp"
#include "updates.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

#define XHAT_TEXT_OF(name) #name
#define XHAT_TEXT(name) XHAT_TEXT_OF(name)

template <class T>
constexpr NormKernels<T> kNormKernels{
    rows_forward<T>,  rows_backward<T>,     channels_statistics<T>, channels_forward<T>,       channels_apply<T>,
    channels_sums<T>, channels_gradient<T>, channels_backward<T>,   channels_apply_backward<T>};

template <class T>
constexpr Kernels<T> kernels_with(const FusedKernels<T>& fused) {
  return {kNormKernels<T>, im2col<T>,  col2im<T>, max_pool_forward<T>, max_pool_backward<T>, softmax<T>,
          softmax_cross_entropy<T>, dropout<T>, copy<T>, update<T>, &fused};
}

}  // namespace

const Variant variant{XHAT_TEXT(XHAT_VARIANT), kernels_with(fused_float32), kernels_with(fused_float64),
                      kNormKernels<Half>, kNormKernels<BFloat16>};

}  // namespace xhat::XHAT_VARIANT
