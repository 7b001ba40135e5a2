// How numbers come from memory and go back to it.
//
// What is read row after row is asked for some time before it is used: the machine's own prefetching stops at every
// page. What is written goes past the cache where it would not stay there anyway: an ordinary store first reads the
// line that it writes.
#pragma once

#include "lanes.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

constexpr Index kAhead = 16384;              // bytes between what is used and what is asked for
constexpr Index kBeyondCache = 1 << 19;      // bytes; an array from here on does not stay in the second-level cache
constexpr Index kStreamFrom = 8 << 20;       // bytes; results from here on are written past the cache

inline Index smaller(Index a, Index b) { return a < b ? a : b; }
inline Index larger(Index a, Index b) { return a > b ? a : b; }
inline Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

// N arrays of one shape that a loop reads side by side.
template <class T, int N>
struct Reads {
  const T* from[N];

  XHAT_INLINE void fetch(Index at) const {
    for (int k = 0; k < N; ++k) __builtin_prefetch(from[k] + at);
  }

  Reads at(Index offset) const {
    Reads result = *this;
    for (int k = 0; k < N; ++k) result.from[k] += offset;
    return result;
  }
};

// What lies in the cache already.
struct NoReads {
  XHAT_INLINE void fetch(Index) const {}
};

template <class T>
XHAT_INLINE inline Reads<T, 1> reads(const T* x) {
  return {{x}};
}

template <class T>
XHAT_INLINE inline Reads<T, 2> reads(const T* dy, const T* x) {
  return {{dy, x}};
}

template <class T>
constexpr bool is_streamed(Index size) {
  return size >= kStreamFrom / static_cast<Index>(sizeof(T));
}

template <class T>
constexpr bool is_beyond_cache(Index size) {
  return size >= kBeyondCache / static_cast<Index>(sizeof(T));
}

// How many elements lie between `to` and the next address that eight elements may be streamed to.
template <class T>
inline Index until_aligned(const T* to) {
  constexpr Index kBlock = kLanes * static_cast<Index>(sizeof(T));
  const Index past = static_cast<Index>(reinterpret_cast<__UINTPTR_TYPE__>(to) % kBlock);
  return past == 0 ? 0 : (kBlock - past) / static_cast<Index>(sizeof(T));
}

// store, past the cache; `to` is aligned to eight elements.
template <class T>
XHAT_INLINE inline void stream(T* to, const Lanes& value) {
#if defined(__x86_64__)
  alignas(64) T stored[kLanes];
  store(stored, value);
#if defined(__AVX512F__)
  if constexpr (sizeof stored == 64) return _mm512_stream_si512(reinterpret_cast<__m512i*>(to),
                                                                *reinterpret_cast<const __m512i*>(stored));
#endif
#if defined(__AVX__)
  if constexpr (sizeof stored >= 32) {
    for (Index k = 0; k < static_cast<Index>(sizeof stored / 32); ++k)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to) + k, reinterpret_cast<const __m256i*>(stored)[k]);
    return;
  }
#endif
  for (Index k = 0; k < static_cast<Index>(sizeof stored / 16); ++k)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to) + k, reinterpret_cast<const __m128i*>(stored)[k]);
#else
  store(to, value);
#endif
}

// Writes one stretch of memory after the other. Where it streams, what is left over at the end of a stretch waits for
// the next one, so that no line is written in two ways.
template <class T>
class Writer {
 public:
  explicit Writer(bool streamed) : streamed_(streamed) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  ~Writer() {
    if (!streamed_) return;
    write_waiting();
#if defined(__x86_64__)
    _mm_sfence();    // other threads see what was streamed only after this
#endif
  }

  bool streamed() const { return streamed_; }

  // to[j] = formula(j, lanes) for j = 0 ... size - 1
  template <class Formula>
  XHAT_INLINE void write(T* to, Index size, const Formula& formula) {
    if (streamed_)
      stream_each(to, size, formula);
    else
      for_each(size, [&](Index j, auto lanes) XHAT_INLINE { store(to + j, formula(j, lanes), lanes); });
  }

 private:
  template <class Formula>
  XHAT_INLINE void stream_each(T* to, Index size, const Formula& formula) {
    Index j = 0;
    if (to != block_ + held_ || held_ == 0) {
      write_waiting();
      j = smaller(until_aligned(to), size);
      if (j > 0) store(to, formula(0, Part{j}), Part{j});
    } else {
      j = smaller(kLanes - held_, size);
      store(waiting_ + held_, formula(0, Part{j}), Part{j});
      held_ += j;
      if (held_ == kLanes) {
        stream(block_, load(waiting_));
        held_ = 0;
      }
    }
    for (; j + kLanes <= size; j += kLanes) stream(to + j, formula(j, Full{}));
    if (j >= size) return;
    block_ = to + j;
    held_ = size - j;
    store(waiting_, formula(j, Part{held_}), Part{held_});
  }

  void write_waiting() {
    for (Index k = 0; k < held_; ++k) block_[k] = waiting_[k];
    held_ = 0;
  }

  const bool streamed_;
  T* block_ = nullptr;    // where what waits belongs
  Index held_ = 0;        // how much waits
  alignas(64) T waiting_[2 * kLanes];
};

}  // namespace
}  // namespace xhat::XHAT_VARIANT
