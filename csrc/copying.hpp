// A copy that goes past the cache: what the memory of this machine can do, the yardstick of the benchmarks.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <cstdint>

#include "lanes.hpp"
#include "parallel.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

#if defined(__AVX512F__)
using Streamed = __m512i;
XHAT_INLINE inline void stream(char* to, Streamed value) { _mm512_stream_si512(reinterpret_cast<__m512i*>(to), value); }
#elif defined(__AVX__)
using Streamed = __m256i;
XHAT_INLINE inline void stream(char* to, Streamed value) { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), value); }
#elif defined(__SSE2__)
using Streamed = __m128i;
XHAT_INLINE inline void stream(char* to, Streamed value) { _mm_stream_si128(reinterpret_cast<__m128i*>(to), value); }
#else
typedef char Streamed __attribute__((vector_size(16)));
XHAT_INLINE inline void stream(char* to, Streamed value) { __builtin_memcpy(to, &value, sizeof value); }
#endif

constexpr Index kLine = 64;
constexpr Index kCopyBlock = Index{1} << 16;
constexpr Index kCopyGrain = 4;    // blocks; less is not worth a thread

// for each line: out[line] = x[line]; out begins at a line
inline void stream_lines(const char* x, char* out, Index size) {
  constexpr Index step = sizeof(Streamed);
  for (Index i = 0; i < size; i += kLine) {
    Streamed value[kLine / step];
    __builtin_memcpy(value, x + i, kLine);
    for (Index part = 0; part < kLine / step; ++part) stream(out + i + part * step, value[part]);
  }
}

// out = x, of so many elements
template <class T>
void copy(const T* x_, T* out_, Index count) {
  const char* const x = reinterpret_cast<const char*>(x_);
  char* const out = reinterpret_cast<char*>(out_);
  const Index size = count * static_cast<Index>(sizeof(T));
  const Index past = static_cast<Index>(reinterpret_cast<std::uintptr_t>(out) % kLine);
  const Index before = past == 0 ? 0 : kLine - past;
  const Index head = before < size ? before : size;
  const Index tail = head + (size - head) / kLine * kLine;
  for (Index i = 0; i < head; ++i) out[i] = x[i];
  for (Index i = tail; i < size; ++i) out[i] = x[i];
  const Index blocks = (tail - head + kCopyBlock - 1) / kCopyBlock;
  parallel_for(blocks, kCopyGrain, [&](Index first, Index last) {
    const Index begin = head + first * kCopyBlock, end = head + last * kCopyBlock;
    stream_lines(x + begin, out + begin, (end < tail ? end : tail) - begin);
#if defined(__SSE2__)
    _mm_sfence();    // what was streamed is seen before what this thread writes next
#endif
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
