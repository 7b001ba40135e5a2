#include "memory.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

namespace xhat {
namespace {

constexpr std::size_t kLargePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

void unmap(Block block) noexcept { munmap(block.data, block.size); }

// Mapped with room to spare, which goes back on both sides: then it begins where a large page can.
Block map(std::size_t asked) {
  static const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  if (asked > SIZE_MAX / 2) throw std::bad_alloc();
  const std::size_t size = round_up(asked > 0 ? asked : 1, page), roomy = size + kLargePage;
  void* const found = mmap(nullptr, roomy, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  char* const start = static_cast<char*>(found);
  const std::size_t before = round_up(reinterpret_cast<std::uintptr_t>(start), kLargePage) -
                             reinterpret_cast<std::uintptr_t>(start);
  if (before > 0) munmap(start, before);
  if (before < kLargePage) munmap(start + before + size, kLargePage - before);
#ifdef MADV_HUGEPAGE
  madvise(start + before, size, MADV_HUGEPAGE);    // a wish: where it is refused, pages are small
#endif
  return {start + before, size};
}

class Recycler {
 public:
  Block take(std::size_t size) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      std::size_t best = idle_.size();
      for (std::size_t i = 0; i < idle_.size(); ++i)
        if (fits(idle_[i], size) && (best == idle_.size() || idle_[i].size <= idle_[best].size)) best = i;
      if (best < idle_.size()) {
        const Block block = idle_[best];
        idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(best));
        held_.idle -= block.size;
        held_.used += block.size;
        return block;
      }
    }
    const Block block = map_or_make_room(size);
    const std::lock_guard<std::mutex> lock(mutex_);
    held_.used += block.size;
    return block;
  }

  void give(Block block) noexcept {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      held_.used -= block.size;
      if (block.size <= limit_ && keep(block)) block = {};
    }
    if (block.data) unmap(block);
    shrink();
  }

  void set_limit(std::size_t limit) noexcept {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      limit_ = limit;
    }
    shrink();
  }

  std::size_t limit() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    return limit_;
  }

  MemoryHeld held() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_;
  }

  // Around fork: held by the thread that forks, the lock is free in the child, and what it guards is whole.
  void before_fork() { mutex_.lock(); }
  void after_fork() { mutex_.unlock(); }
  void after_fork_in_child() {
    for (const Block block : idle_) unmap(block);
    idle_.clear();
    held_.idle = 0;
    mutex_.unlock();
  }

 private:
  static bool fits(Block block, std::size_t size) { return block.size >= size && block.size - size <= size / 4; }

  bool keep(Block block) noexcept {
    try {
      idle_.push_back(block);
    } catch (const std::bad_alloc&) {
      return false;
    }
    held_.idle += block.size;
    return true;
  }

  Block map_or_make_room(std::size_t size) {
    try {
      return map(size);
    } catch (const std::bad_alloc&) {
      while (release_oldest(0)) continue;
      return map(size);
    }
  }

  void shrink() noexcept {
    while (release_oldest(limit())) continue;
  }

  // Unmaps one block if more than `limit` bytes are idle. The lock is not held meanwhile: this takes its time.
  bool release_oldest(std::size_t limit) noexcept {
    Block oldest;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (held_.idle <= limit) return false;
      oldest = idle_.front();
      idle_.erase(idle_.begin());
      held_.idle -= oldest.size;
    }
    unmap(oldest);
    return true;
  }

  std::mutex mutex_;           // guards what follows
  std::vector<Block> idle_;    // the longest idle first
  MemoryHeld held_{0, 0};
  std::size_t limit_ = 0;
};

// Never deleted: arrays may outlive everything else.
Recycler& recycler() {
  static Recycler* const only = new Recycler;
  return *only;
}

[[maybe_unused]] const int fork_handlers =
    pthread_atfork([] { recycler().before_fork(); }, [] { recycler().after_fork(); },
                   [] { recycler().after_fork_in_child(); });

}  // namespace

Block take_memory(std::size_t size) { return recycler().take(size); }

void give_memory(Block block) noexcept { recycler().give(block); }

void set_idle_memory(std::size_t limit) noexcept { recycler().set_limit(limit); }

std::size_t get_idle_memory() noexcept { return recycler().limit(); }

MemoryHeld memory_held() noexcept { return recycler().held(); }

}  // namespace xhat
