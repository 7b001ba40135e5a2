// Random numbers that are a function of their place: which numbers dropout keeps needs no memory, and depends neither
// on the number of threads nor on how the work is cut.
//
// Philox4x32 of Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3": a block of four words
// of 32 bits from a counter and a key. The number at flat index i has word i % 4 of block i / 4. Seven rounds are the
// fewest that pass all of TestU01's BigCrush (their table 2); the ten that are usual are a margin that a mask does not
// need.
//
// The scalar form is xhat/kernels/random.py:
//
//   for 7 rounds: c = (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),   k = (k0 + W0, k1 + W1)
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "lanes.hpp"
#include "parallel.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

// Two lanes hold one block: c0 and c1 are the low and high word of the first, c2 and c3 those of the second.
using Blocks = VectorOf<unsigned long long>::type;
constexpr Index kBlocks = kWidth / 2;
constexpr Index kWords = 4 * kBlocks;

// The product of the low words of each lane.
XHAT_INLINE inline Blocks product(const Blocks& a, const Blocks& b) {
#if defined(__AVX512F__)
  return (Blocks)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Blocks)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__) && !defined(__AVX__)
  return (Blocks)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}

// The four words of each block in reverse.
XHAT_INLINE inline Blocks reversed(const Blocks& words) {
#if defined(__AVX512F__)
  return (Blocks)_mm512_maskz_shuffle_epi32(0xffff, (__m512i)words, _MM_PERM_ABCD);
#elif defined(__AVX2__)
  return (Blocks)_mm256_shuffle_epi32((__m256i)words, 0x1b);
#elif defined(__SSE2__) && !defined(__AVX__)
  return (Blocks)_mm_shuffle_epi32((__m128i)words, 0x1b);
#else
  Blocks result;
  for (Index k = 0; k < kWidth; ++k) result[k] = words[k ^ 1] >> 32 | words[k ^ 1] << 32;
  return result;
#endif
}

// What dropout does to eight numbers at a time: times the scale where kept, else 0.
class Dropout {
 public:
  explicit Dropout(const Dropping& dropping) : threshold_(dropping.threshold), scale_(splat(dropping.scale)) {
    unsigned first = static_cast<unsigned>(dropping.key), second = static_cast<unsigned>(dropping.key >> 32);
    for (int r = 0; r < kRounds; ++r, first += 0x9e3779b9, second += 0xbb67ae85) key_[r] = alternating(first, second);
    factors_ = alternating(0xd2511f53, 0xcd9e8d57);
    counts_ = alternating(~0ull, 0);
    for (Index k = 0; k < kWidth; ++k) steps_[k] = static_cast<unsigned long long>(k / 2);
  }

  // The numbers at flat index `at` and the seven after it. A dropped NaN or Inf gives 0 too.
  XHAT_INLINE Lanes operator()(Index at, const Lanes& value) const {
    const Drawn words = words_at(at);
    Lanes result = value * scale_;
    for (Index p = 0; p < kParts; ++p) {
      const Blocks kept = -((Blocks)(threshold_ - 1 - words.part[p]) >> 63);    // SSE2 compares no 64 bits
      result.part[p] = (Vector)((Blocks)result.part[p] & kept);
    }
    return result;
  }

 private:
  static constexpr int kRounds = 7;

  struct Drawn {
    Mask part[kParts];
  };

  static Blocks alternating(unsigned long long even, unsigned long long odd) {
    Blocks result;
    for (Index k = 0; k < kWidth; ++k) result[k] = k % 2 == 0 ? even : odd;
    return result;
  }

  // kBlocks blocks from one on.
  XHAT_INLINE Blocks blocks(Index first) const {
    Blocks words = (steps_ + static_cast<unsigned long long>(first)) & counts_;
    for (int r = 0; r < kRounds; ++r) words = reversed(product(words, factors_)) ^ (words >> 32) ^ key_[r];
    return words;
  }

  XHAT_INLINE Drawn words_at(Index at) const {
    const Index block = at / 4;
    const int skip = static_cast<int>(at % 4);
    Drawn result;
#if defined(__AVX512F__)
    const __m512i places = _mm512_set_epi32(0, 7, 0, 6, 0, 5, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0);
    const __m512i from = _mm512_maskz_add_epi32(0x5555, places, _mm512_set1_epi32(skip));
    result.part[0] = (Mask)_mm512_maskz_permutexvar_epi32(0x5555, from, (__m512i)blocks(block));
#elif defined(__AVX2__)
    __m256i words = (__m256i)blocks(block);
    if (skip != 0) {
      const __m256i from = _mm256_add_epi32(_mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0), _mm256_set1_epi32(skip));
      const __m256i next = (__m256i)blocks(block + kBlocks);
      const __m256i beyond = _mm256_cmpgt_epi32(from, _mm256_set1_epi32(7));
      words = _mm256_blendv_epi8(_mm256_permutevar8x32_epi32(words, from), _mm256_permutevar8x32_epi32(next, from),
                                 beyond);
    }
    result.part[0] = (Mask)_mm256_cvtepu32_epi64(_mm256_castsi256_si128(words));
    result.part[1] = (Mask)_mm256_cvtepu32_epi64(_mm256_extracti128_si256(words, 1));
#else
    unsigned words[3 * 4 + kWords];    // eight from any place in the first block
    for (Index b = 0; b < 3; b += kBlocks) {
      const Blocks some = blocks(block + b);
      __builtin_memcpy(words + 4 * b, &some, sizeof some);
    }
    for (Index k = 0; k < kLanes; ++k) result.part[k / kWidth][k % kWidth] = words[skip + k];
#endif
    return result;
  }

  Blocks key_[kRounds], factors_, counts_, steps_;
  long long threshold_;
  Lanes scale_;
};

template <class T>
void dropout(const T* x, Dropping dropping, T* out, Index size) {
  constexpr Index kGrain = 8192;
  const Dropout dropped(dropping);
  parallel_for(size, kGrain, [&](Index first, Index last) {
    for_each(last - first, [&](Index j, auto lanes) XHAT_INLINE {
      const Index at = first + j;
      store(out + at, dropped(at, load(x + at, lanes)), lanes);
    });
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
