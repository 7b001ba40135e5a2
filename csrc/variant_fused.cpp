// The norms with what stands beside them, compiled for one instruction set like variant.cpp.
#include "channels.hpp"
#include "rows.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

template <class T>
void fused_rows_forward(const T* x, Addition<T> addition, const double* gamma, const double* beta, double eps,
                        bool centred, Epilogue epilogue, T* out, Statistics statistics, RowsShape shape) {
  const Dropout dropped(epilogue.dropping);
  FusedRows<T> beside({epilogue.rectified, epilogue.drops ? &dropped : nullptr, beta}, shape.columns);
  beside.x = x;
  beside.addition = addition;
  rows_forward(addition.total ? addition.total : x, gamma, beta, eps, centred, out, statistics, shape, beside);
}

template <class T>
void fused_channels_forward(const T* x, Weights weights, const double* gamma, const double* beta, double eps,
                            Epilogue epilogue, T* out, Statistics statistics, ChannelsShape shape) {
  const Dropout dropped(epilogue.dropping);
  const Fused<T> after(epilogue.rectified, epilogue.drops ? &dropped : nullptr, beta);
  channels_forward(x, weights, gamma, beta, eps, out, statistics, shape, after);
}

template <class T>
void fused_channels_apply(const T* x, Weights weights, const double* gamma, const double* beta, Centre centre,
                          Epilogue epilogue, T* out, ChannelsShape shape) {
  const Dropout dropped(epilogue.dropping);
  const Fused<T> after(epilogue.rectified, epilogue.drops ? &dropped : nullptr, beta);
  channels_apply(x, weights, gamma, beta, centre, out, shape, after);
}

// Backward reads dy twice. Random numbers cost more than memory: where some are dropped, what arrives at the norm is
// worked out once, into `out`, and goes through the norm in place.

template <class T>
void fused_rows_backward(const T* dy, const T* x, const T* also, const double* gamma, const double* beta,
                         Centre centre, bool centred, Epilogue epilogue, T* out, double* dgamma, double* dbeta,
                         double* dbias, RowsShape shape) {
  FusedRows<T> beside({epilogue.rectified && !epilogue.drops, nullptr, beta}, shape.columns);
  beside.also = also;
  beside.dbias = dbias;
  if (epilogue.drops) {
    const Dropout dropped(epilogue.dropping);
    gate_rows(dy, x, gamma, centre, out, shape, Fused<T>(epilogue.rectified, &dropped, beta));
    dy = out;
  }
  rows_backward(dy, x, gamma, centre, centred, out, dgamma, dbeta, shape, beside);
}

// dy, or `out` with what arrives at the norm.
template <class T>
const T* gated(const T* dy, const T* x, const double* gamma, const double* beta, Centre centre,
               const Epilogue& epilogue, T* out, ChannelsShape shape) {
  if (!epilogue.drops) return dy;
  const Dropout dropped(epilogue.dropping);
  gate_channels(dy, x, gamma, centre, out, shape, Fused<T>(epilogue.rectified, &dropped, beta));
  return out;
}

template <class T>
void fused_channels_backward(const T* dy, const T* x, Weights weights, const double* gamma, const double* beta,
                             Centre centre, Epilogue epilogue, T* out, double* dgamma, double* dbeta,
                             ChannelsShape shape) {
  dy = gated(dy, x, gamma, beta, centre, epilogue, out, shape);
  const Fused<T> after(epilogue.rectified && !epilogue.drops, nullptr, beta);
  channels_backward(dy, x, weights, gamma, centre, out, dgamma, dbeta, shape, after);
}

template <class T>
void fused_channels_apply_backward(const T* dy, const T* x, Weights weights, const double* gamma, const double* beta,
                                   Centre centre, Epilogue epilogue, T* out, double* dgamma, double* dbeta,
                                   ChannelsShape shape) {
  dy = gated(dy, x, gamma, beta, centre, epilogue, out, shape);
  const Fused<T> after(epilogue.rectified && !epilogue.drops, nullptr, beta);
  channels_apply_backward(dy, x, weights, gamma, centre, out, dgamma, dbeta, shape, after);
}

template <class T>
constexpr FusedKernels<T> kFusedKernels{
    fused_rows_forward<T>,   fused_rows_backward<T>,    fused_channels_forward<T>,
    fused_channels_apply<T>, fused_channels_backward<T>, fused_channels_apply_backward<T>};

}  // namespace

const FusedKernels<float> fused_float32 = kFusedKernels<float>;
const FusedKernels<double> fused_float64 = kFusedKernels<double>;

}  // namespace xhat::XHAT_VARIANT
