// Eight doubles at a time, whatever the width of the machine's vectors.
//
// Every variant adds the same numbers in the same order, so all give the same bits. The loops call their body with
// Full for eight elements and with Part for the last few; load, store and keep take either.
//
// Everything here and in the files that include it has internal linkage: the same source is compiled for several
// instruction sets, and the linker must never put one's function in another's place. For the same reason no
// template of the standard library is used.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels.hpp"

#define XHAT_INLINE __attribute__((always_inline))

namespace xhat::XHAT_VARIANT {
namespace {

constexpr Index kLanes = 8;
#if defined(__AVX512F__)
constexpr Index kWidth = 8;
#elif defined(__AVX__)
constexpr Index kWidth = 4;
#else
constexpr Index kWidth = 2;
#endif
constexpr Index kParts = kLanes / kWidth;

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kWidth * sizeof(T))));
};
using Vector = VectorOf<double>::type;
using Floats = VectorOf<float>::type;
using Mask = VectorOf<long long>::type;
using Words = VectorOf<unsigned>::type;
using Shorts = VectorOf<unsigned short>::type;

// The types of 16 bits are told apart by what their bits are kept in.
template <>
struct VectorOf<Half> {
  struct type {
    Shorts bits;
  };
};
template <>
struct VectorOf<BFloat16> {
  struct type {
    Shorts bits;
  };
};

struct Lanes {
  Vector part[kParts];
};

struct Full {};
struct Part {
  Index count;
};

XHAT_INLINE inline Lanes splat(double value) {
  Lanes result;
  for (Index p = 0; p < kParts; ++p) result.part[p] = value - Vector{};
  return result;
}

XHAT_INLINE inline Lanes operator+(Lanes a, const Lanes& b) {
  for (Index p = 0; p < kParts; ++p) a.part[p] += b.part[p];
  return a;
}

XHAT_INLINE inline Lanes operator-(Lanes a, const Lanes& b) {
  for (Index p = 0; p < kParts; ++p) a.part[p] -= b.part[p];
  return a;
}

XHAT_INLINE inline Lanes operator*(Lanes a, const Lanes& b) {
  for (Index p = 0; p < kParts; ++p) a.part[p] *= b.part[p];
  return a;
}

XHAT_INLINE inline Lanes operator/(Lanes a, const Lanes& b) {
  for (Index p = 0; p < kParts; ++p) a.part[p] /= b.part[p];
  return a;
}

XHAT_INLINE inline Vector square_root(const Vector& value) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_pd(0xff, value);
#elif defined(__AVX__)
  return _mm256_sqrt_pd(value);
#elif defined(__SSE2__)
  return _mm_sqrt_pd(value);
#else
  Vector result;
  for (Index k = 0; k < kWidth; ++k) result[k] = __builtin_sqrt(value[k]);
  return result;
#endif
}

XHAT_INLINE inline Lanes square_root(Lanes value) {
  for (Index p = 0; p < kParts; ++p) value.part[p] = square_root(value.part[p]);
  return value;
}

// Where `chosen` is positive: a, elsewhere b.
XHAT_INLINE inline Lanes where_positive(const Lanes& chosen, const Lanes& a, const Lanes& b) {
  Lanes result;
  for (Index p = 0; p < kParts; ++p) result.part[p] = chosen.part[p] > 0 ? a.part[p] : b.part[p];
  return result;
}

XHAT_INLINE inline double where_positive(double chosen, double a, double b) { return chosen > 0 ? a : b; }

// Where the weight is 0: zero.
XHAT_INLINE inline Lanes where_counted(const Lanes& weight, Lanes value) {
  for (Index p = 0; p < kParts; ++p) value.part[p] = weight.part[p] == 0 ? Vector{} : value.part[p];
  return value;
}

// Where the weight is 0 and x is NaN or Inf: zero.
XHAT_INLINE inline Lanes where_there(const Lanes& weight, const Lanes& x, Lanes value) {
  for (Index p = 0; p < kParts; ++p) {
    const Mask gone = (weight.part[p] == 0) & (x.part[p] - x.part[p] != 0);
    value.part[p] = gone ? Vector{} : value.part[p];
  }
  return value;
}

XHAT_INLINE inline Vector widened(const Vector& stored) { return stored; }

XHAT_INLINE inline Vector widened(const Floats& stored) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtps_pd(0xff, stored);    // GCC 12 makes four instructions of the last line
#elif defined(__AVX__)
  return _mm256_cvtps_pd(stored);
#else
  return __builtin_convertvector(stored, Vector);
#endif
}

// Four shorts are the lower half of a register.
#if defined(__AVX__) && !defined(__AVX512F__)
XHAT_INLINE inline __m128i in_register(const Shorts& stored) { return _mm_cvtsi64_si128((long long)stored); }
XHAT_INLINE inline Shorts from_register(__m128i shorts) { return (Shorts)_mm_cvtsi128_si64(shorts); }
#endif

XHAT_INLINE inline Words to_words(const Shorts& shorts) {
#if defined(__AVX512F__)
  return (Words)_mm256_cvtepu16_epi32((__m128i)shorts);    // likewise
#elif defined(__AVX__)
  return (Words)_mm_cvtepu16_epi32(in_register(shorts));
#else
  return __builtin_convertvector(shorts, Words);
#endif
}

// of words below 65536
XHAT_INLINE inline Shorts to_shorts(const Words& words) {
#if defined(__AVX512F__)
  return (Shorts)_mm256_cvtepi32_epi16((__m256i)words);
#elif defined(__AVX__)
  return from_register(_mm_packus_epi32((__m128i)words, (__m128i)words));
#else
  return __builtin_convertvector(words, Shorts);
#endif
}

XHAT_INLINE inline Vector widened(const VectorOf<BFloat16>::type& stored) {
  return widened((Floats)(to_words(stored.bits) << 16));
}

// Scalar: the sign, the exponent moved from the bias 15 to 127 and the fraction. Exponent 0 has no leading 1: it gets
// one, which is taken off again. Exponent 31 says Inf or NaN.
XHAT_INLINE inline Vector widened(const VectorOf<Half>::type& stored) {
#if defined(__AVX512F__)
  return widened((Floats)_mm256_cvtph_ps((__m128i)stored.bits));
#elif defined(__F16C__)
  return widened((Floats)_mm_cvtph_ps(in_register(stored.bits)));
#else
  constexpr unsigned kMove = (127 - 15) << 23, kOne = 1 << 23;
  const Words half = to_words(stored.bits);
  const Words exponent = half & 0x7c00;
  const Words added = kMove + ((Words)(exponent == 0x7c00) & kMove) + ((Words)(exponent == 0) & kOne);
  const Words leading = (Words)(exponent == 0) & (kMove + kOne);
  const Floats size = (Floats)(((half & 0x7fff) << 13) + added) - (Floats)leading;
  return widened((Floats)((Words)size | (half & 0x8000) << 16));
#endif
}

XHAT_INLINE inline void narrow(const Vector& value, Vector& stored) { stored = value; }

XHAT_INLINE inline void narrow(const Vector& value, Floats& stored) {
  stored = __builtin_convertvector(value, Floats);
}

// A float that rounds to a type of at most 11 digits as the double does: the conversion to float would round once by
// itself, and a value that it moved onto the middle between two numbers would then go to the even one. Here all after
// the 13th digit is cut off and leaves a 1 in its place. What a float cannot hold then is too large or too small for
// those types as well.
XHAT_INLINE inline Floats to_odd(const Vector& value) {
  constexpr long long kCut = (1LL << 40) - 1;
  const Mask bits = (Mask)value;
  return __builtin_convertvector((Vector)((((bits & kCut) + kCut) | bits) & ~kCut), Floats);
}

// Scalar: to nearest, ties to even; the upper half of the bits. NaN must not round to Inf.
XHAT_INLINE inline void narrow(const Vector& value, VectorOf<BFloat16>::type& stored) {
  const Floats odd = to_odd(value);
  const Words bits = (Words)odd;
  const Words rounded = bits + 0x7fff + (bits >> 16 & 1);
  stored.bits = to_shorts((odd == odd ? rounded : bits | 0x400000) >> 16);
}

// Scalar: to nearest, ties to even; the exponent moved from the bias 127 to 15. Below the smallest normal number,
// adding 0.5 leaves the right digits. From 65536 on it is Inf; what rounds up to it becomes Inf by itself.
XHAT_INLINE inline void narrow(const Vector& value, VectorOf<Half>::type& stored) {
  const Floats odd = to_odd(value);
#if defined(__AVX512F__)
  stored.bits = (Shorts)_mm256_cvtps_ph((__m256)odd, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  stored.bits = from_register(_mm_cvtps_ph((__m128)odd, _MM_FROUND_TO_NEAREST_INT));
#else
  constexpr unsigned kMove = (127 - 15) << 23;
  const Words size = (Words)odd & 0x7fffffff;
  const Words normal = (size - kMove + 0xfff + (size >> 13 & 1)) >> 13;
  const Words subnormal = (Words)((Floats)size + 0.5f) - 0x3f000000;
  const Words nan = 0x7e00 | (size >> 13 & 0x3ff);
  const Words finite = size < kMove + (1 << 23) ? subnormal : normal;
  const Words special = odd == odd ? 0x7c00 - Words{} : nan;
  const Words result = size < kMove + (31 << 23) ? finite : special;
  stored.bits = to_shorts(result | ((Words)odd >> 16 & 0x8000));
#endif
}

template <class T>
XHAT_INLINE inline Lanes load(const T* from, Full = {}) {
  Lanes result;
  for (Index p = 0; p < kParts; ++p) {
    typename VectorOf<T>::type stored;
    __builtin_memcpy(&stored, from + p * kWidth, sizeof stored);
    result.part[p] = widened(stored);
  }
  return result;
}

template <class T>
XHAT_INLINE inline void store(T* to, const Lanes& value, Full = {}) {
  for (Index p = 0; p < kParts; ++p) {
    typename VectorOf<T>::type stored;
    narrow(value.part[p], stored);
    __builtin_memcpy(to + p * kWidth, &stored, sizeof stored);
  }
}

template <class T>
XHAT_INLINE inline Lanes load(const T* from, Part part) {
#if defined(__AVX512F__)
  const __mmask8 mask = static_cast<__mmask8>((1u << part.count) - 1);
  if constexpr (sizeof(T) == 4)
    return {{widened(reinterpret_cast<VectorOf<float>::type>(_mm256_maskz_loadu_ps(mask, from)))}};
  else if constexpr (sizeof(T) == 8)
    return {{reinterpret_cast<Vector>(_mm512_maskz_loadu_pd(mask, from))}};
#endif
  T padded[kLanes];
  for (Index k = 0; k < kLanes; ++k) padded[k] = k < part.count ? from[k] : T{};
  return load(padded);
}

template <class T>
XHAT_INLINE inline void store(T* to, const Lanes& value, Part part) {
#if defined(__AVX512F__)
  const __mmask8 mask = static_cast<__mmask8>((1u << part.count) - 1);
  if constexpr (sizeof(T) == 4)
    return _mm256_mask_storeu_ps(to, mask, __builtin_convertvector(value.part[0], VectorOf<float>::type));
  else if constexpr (sizeof(T) == 8)
    return _mm512_mask_storeu_pd(to, mask, value.part[0]);
#endif
  T padded[kLanes];
  store(padded, value);
  for (Index k = 0; k < kLanes; ++k)
    if (k < part.count) to[k] = padded[k];
}

// The lanes past the end hold nothing: zero in a sum.
XHAT_INLINE inline Lanes keep(const Lanes& value, Full) { return value; }

XHAT_INLINE inline Lanes keep(Lanes value, Part part) {
#if defined(__AVX512F__)
  const __mmask8 mask = static_cast<__mmask8>((1u << part.count) - 1);
  return {{reinterpret_cast<Vector>(_mm512_maskz_mov_pd(mask, value.part[0]))}};
#else
  double padded[kLanes];
  store(padded, value);
  for (Index k = 0; k < kLanes; ++k) padded[k] = k < part.count ? padded[k] : 0;
  return load(padded);
#endif
}

XHAT_INLINE inline double sum(const Lanes& value) {
  double lane[kLanes];
  store(lane, value);
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

// body(j, lanes) for j = 0, 8, ... < size
template <class Body>
XHAT_INLINE inline void for_each(Index size, const Body& body) {
  Index j = 0;
  for (; j + kLanes <= size; j += kLanes) body(j, Full{});
  if (j < size) body(j, Part{size - j});
}

template <int K>
struct Terms {
  Lanes term[K];
};

// total[k] += the k-th of the terms that body(j, lanes) returns, for j = 0, 8, ... < size
template <int K, class Body>
XHAT_INLINE inline void accumulate(Index size, const Body& body, Terms<K>& total) {
  Terms<K> even = {}, odd = {};    // two chains: additions need not wait for each other
  const auto add = [&](Terms<K>& chain, Index j, auto lanes) XHAT_INLINE {
    const Terms<K> terms = body(j, lanes);
    for (int k = 0; k < K; ++k) chain.term[k] = chain.term[k] + keep(terms.term[k], lanes);
  };
  Index j = 0;
  for (; j + 2 * kLanes <= size; j += 2 * kLanes) {
    add(even, j, Full{});
    add(odd, j + kLanes, Full{});
  }
  if (j + kLanes <= size) {
    add(even, j, Full{});
    j += kLanes;
  }
  if (j < size) add(odd, j, Part{size - j});
  for (int k = 0; k < K; ++k) total.term[k] = total.term[k] + (even.term[k] + odd.term[k]);
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
