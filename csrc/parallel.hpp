// One small pool of threads, for the whole process.
//
// parallel_for cuts [0, count) into pieces of at least `grain` items and runs body(first, last) on each. Which thread
// runs which piece, and where the cuts lie, is not fixed: a sum must be over fixed blocks (one block, one item), each
// with its own place for the result, added up in order afterwards. Then the bits depend on no number of threads.
//
// The calling thread works too, and never waits for a thread that has not started. It runs everything itself when
// there is too little work for two threads, inside another parallel_for, and while another thread uses the pool.
// Threads without work stay awake for microseconds and then sleep.
// The first exception of a body is thrown to the caller, after the others have stopped.
// A forked child starts without threads and makes its own when it needs them.
#pragma once

#include "kernels.hpp"

namespace xhat {

void set_num_threads(int n);
int get_num_threads();

namespace detail {
using Piece = void (*)(const void* body, Index first, Index last);
void run(Index count, Index grain, Piece piece, const void* body);
}  // namespace detail

template <class Body>
void parallel_for(Index count, Index grain, const Body& body) {
  if (count <= grain) return body(Index{0}, count);
  const detail::Piece piece = [](const void* body, Index first, Index last) {
    (*static_cast<const Body*>(body))(first, last);
  };
  detail::run(count, grain, piece, &body);
}

}  // namespace xhat
