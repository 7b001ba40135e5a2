// How optimizers change parameters: one pass over all parameters, their gradients and what is kept of them.
//
// All parameters together are one line of entries. Where a thread's piece of it ends changes no bits: every entry is
// worked out alone, in double from the numbers as they are stored; each result is rounded once. What a rule keeps is
// rounded before the step is made of it, so that the step follows from the numbers that are kept.
#pragma once

#include "lanes.hpp"
#include "parallel.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

constexpr Index kUpdateGrain = 16384;    // entries worth a thread: some 10 us

// Sizes to divide by: 1 where there never was a gradient and eps is 0, so that nothing moves there.
XHAT_INLINE inline Lanes nonzero(Lanes size) {
  for (Index p = 0; p < kParts; ++p) size.part[p] = size.part[p] == 0 ? 1 - Vector{} : size.part[p];
  return size;
}

// Stores what a rule keeps and returns it as it was stored.
template <class T, class Width>
XHAT_INLINE inline Lanes keep_in(T* memory, const Lanes& value, Width width) {
  T stored[kLanes];
  store(stored, value);
  const Lanes rounded = load(stored);
  store(memory, rounded, width);
  return rounded;
}

// w = w - decay * w - step, with the step of the rule:
//   sgd       rate * dw
//   momentum  -v,                     v = kept * v - rate * dw
//   nesterov  rate * dw - kept * v,   v as above
//   rmsprop   rate * dw / (sqrt(r) + eps),   r = kept * r + (1 - kept) * dw²
//   adam      rate * m / (sqrt(correction * v) + eps),   m, v: averages of dw and dw² likewise
template <class T, Rule kRule, class Width>
XHAT_INLINE inline void change(const Parameter<T>& parameter, const Update& update, Index j, Width width) {
  const Lanes dw = load(parameter.gradient + j, width);
  const Lanes rate = splat(static_cast<T>(update.rate));    // Inf if the type cannot hold it, and NaN where it meets 0
  const auto averaged = [&](int slot, const Lanes& value) XHAT_INLINE {
    T* const memory = parameter.memory[slot] + j;
    const double kept = update.kept[slot];
    return keep_in(memory, splat(kept) * load(memory, width) + splat(1 - kept) * value, width);
  };
  const auto over_size = [&](const Lanes& value, const Lanes& square) XHAT_INLINE {
    return rate * (value / nonzero(square_root(square) + splat(update.eps)));
  };
  const auto moved = [&]() XHAT_INLINE {
    T* const memory = parameter.memory[0] + j;
    return keep_in(memory, splat(update.kept[0]) * load(memory, width) - rate * dw, width);
  };
  Lanes step;
  if constexpr (kRule == Rule::sgd) {
    step = rate * dw;
  } else if constexpr (kRule == Rule::momentum) {
    step = splat(-1) * moved();    // not 0 - v: its zeros have a sign
  } else if constexpr (kRule == Rule::nesterov) {
    step = rate * dw - splat(update.kept[0]) * moved();
  } else if constexpr (kRule == Rule::rmsprop) {
    step = over_size(dw, averaged(0, dw * dw));
  } else {
    const Lanes m = averaged(0, dw), v = averaged(1, dw * dw);
    step = over_size(m, splat(update.correction) * v);
  }
  T* const values = parameter.values + j;
  Lanes w = load(values, width);
  if (parameter.decay != 0) w = w - splat(parameter.decay) * w;    // 0 * Inf would be NaN
  store(values, w - step, width);
}

// for each entry of all parameters, one after the other: change it
template <class T, Rule kRule>
void update_all(const Parameter<T>* parameters, Index count, const Update& update) {
  const Index total = count > 0 ? parameters[count - 1].start + parameters[count - 1].size : 0;
  parallel_for(total, kUpdateGrain, [=, &update](Index first, Index last) {
    Index at = 0;    // the parameter that `first` lies in: the last one that starts there or before
    for (Index above = count; above - at > 1;) {
      const Index middle = at + (above - at) / 2;
      (parameters[middle].start <= first ? at : above) = middle;
    }
    for (; first < last; ++at) {
      Parameter<T> part = parameters[at];
      const Index skipped = first - part.start;
      const Index size = part.start + part.size < last ? part.size - skipped : last - first;
      part.values += skipped;
      part.gradient += skipped;
      for (T*& memory : part.memory)
        if (memory) memory += skipped;
      for_each(size, [&](Index j, auto width) XHAT_INLINE { change<T, kRule>(part, update, j, width); });
      first += size;
    }
  });
}

template <class T>
void update(const Parameter<T>* parameters, Index count, const Update& update) {
  switch (update.rule) {
    case Rule::sgd: return update_all<T, Rule::sgd>(parameters, count, update);
    case Rule::momentum: return update_all<T, Rule::momentum>(parameters, count, update);
    case Rule::nesterov: return update_all<T, Rule::nesterov>(parameters, count, update);
    case Rule::rmsprop: return update_all<T, Rule::rmsprop>(parameters, count, update);
    case Rule::adam: return update_all<T, Rule::adam>(parameters, count, update);
  }
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
