// Large pieces of memory that come back and are used again: fresh pages cost more than the arithmetic done in them.
//
// A block begins at a multiple of 2 MB and asks the system for large pages. What is given back is kept, idle, until a
// request that it fits (it is at most a quarter larger than asked), until too much is idle (the longest idle goes
// first), or until the system has no other memory. Contents are not set: a block shows what it held before.
// Any thread may take and give. A forked child keeps the blocks that are in use, and starts without idle ones.
#pragma once

#include <cstddef>

namespace xhat {

struct Block {
  void* data;
  std::size_t size;    // at least as asked
};

struct MemoryHeld {
  std::size_t used, idle;    // bytes
};

// Throws std::bad_alloc if the system has no such memory.
Block take_memory(std::size_t size);
void give_memory(Block block) noexcept;

// How many bytes may be idle. 0: each block goes back to the system at once.
void set_idle_memory(std::size_t limit) noexcept;
std::size_t get_idle_memory() noexcept;
MemoryHeld memory_held() noexcept;

}  // namespace xhat
