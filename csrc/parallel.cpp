#include "parallel.hpp"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

namespace xhat {
namespace {

constexpr Index kPiecesPerThread = 8;    // so that a thread that is held up leaves work to the others

// To sleep and be woken costs more than a small job. So threads stay awake for a moment: a helper across the gap between
// the loops of one kernel and between calls in a row, the caller until the last pieces are done. Not for longer: another
// library's threads may be waiting for the CPU.
constexpr std::chrono::microseconds kAwakeForWork{50};
constexpr std::chrono::microseconds kAwakeForEnd{20};

std::atomic<int> num_threads{1};

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits awake until `ready`, or until the time is over.
template <class Ready>
void stay_awake(std::chrono::microseconds longest, const Ready& ready) {
  if (ready()) return;
  const auto end = std::chrono::steady_clock::now() + longest;
  do
    for (int i = 0; i < 16; ++i) {
      if (ready()) return;
      pause_briefly();
    }
  while (std::chrono::steady_clock::now() < end);
}

// A helper that is woken on the caller's processor waits there, beside idle ones, until the caller is done. Once it runs,
// it leaves that one to the caller.
int current_processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

void leave_processor([[maybe_unused]] int processor) {
#if defined(__linux__)
  cpu_set_t others;    // of those that the process may use
  if (processor < 0 || processor >= CPU_SETSIZE || sched_getaffinity(getpid(), sizeof others, &others) != 0) return;
  CPU_CLR(processor, &others);
  if (CPU_COUNT(&others) > 0) sched_setaffinity(0, sizeof others, &others);
#endif
}

class Job {
 public:
  Job(Index count, Index step, detail::Piece piece, const void* body)
      : count_(count), step_(step), piece_(piece), body_(body) {}

  void work() noexcept {
    try {
      for (Index first; (first = next_.fetch_add(step_, std::memory_order_relaxed)) < count_;)
        piece_(body_, first, std::min(first + step_, count_));
    } catch (...) {
      next_.store(count_, std::memory_order_relaxed);
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const Index count_, step_;
  const detail::Piece piece_;
  const void* const body_;
  std::atomic<Index> next_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

class Pool {
 public:
  // Runs the job here and on up to `helpers` threads. False, and nothing done, if the pool is in use.
  bool run(Job& job, int helpers) {
    if (taken_.exchange(true, std::memory_order_acquire)) return false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      start(helpers);
      job_ = &job;
      processor_.store(current_processor(), std::memory_order_relaxed);
      seats_ = helpers;
    }
    if (helpers == 1)
      wake_.notify_one();
    else
      wake_.notify_all();
    job.work();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = nullptr;    // whoever comes only now finds nothing to do
      seats_.store(0, std::memory_order_relaxed);
    }
    stay_awake(kAwakeForEnd, [this] { return busy_.load(std::memory_order_relaxed) == 0; });
    {
      std::unique_lock<std::mutex> lock(mutex_);
      finished_.wait(lock, [this] { return busy_ == 0; });
    }
    taken_.store(false, std::memory_order_release);
    return true;
  }

 private:
  void start(int wanted) {
    if (threads_ >= wanted) return;
    sigset_t all, before;    // signals belong to the threads of the interpreter
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; threads_ < wanted; ++threads_) std::thread(&Pool::serve, this).detach();
    } catch (const std::exception&) {
      // The system gives no more threads: those at hand do the work.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void serve() {
    for (;;) {
      stay_awake(kAwakeForWork, [this] { return seats_.load(std::memory_order_relaxed) > 0; });
      std::unique_lock<std::mutex> lock(mutex_);
      while (seats_ == 0) {
        wake_.wait(lock);
        const int processor = processor_.load(std::memory_order_relaxed);
        if (current_processor() != processor) continue;
        lock.unlock();
        leave_processor(processor);
        lock.lock();
      }
      Job& job = *job_;
      --seats_;
      ++busy_;
      lock.unlock();
      job.work();
      lock.lock();
      if (--busy_ == 0) finished_.notify_one();
    }
  }

  std::atomic<bool> taken_{false};    // by the thread whose job is being done; inside a job, therefore, too
  std::mutex mutex_;                  // guards what follows; who is awake looks at the atomic ones without it
  std::condition_variable wake_, finished_;
  Job* job_ = nullptr;
  std::atomic<int> processor_{-1};    // where the caller was when the job began
  std::atomic<int> seats_{0};    // how many more threads may join the job; 0 without one
  std::atomic<int> busy_{0};     // how many are at work on it
  int threads_ = 0;
};

// Never deleted: its threads wait on it until the process ends.
std::atomic<Pool*> shared_pool{nullptr};

Pool& pool() {
  Pool* current = shared_pool.load(std::memory_order_acquire);
  if (current) return *current;
  Pool* fresh = new Pool;
  if (shared_pool.compare_exchange_strong(current, fresh)) return *fresh;
  delete fresh;
  return *current;
}

// The parent's pool is of no use here: its threads do not exist and its locks may be held by one of them.
void forget_pool() { shared_pool.store(nullptr); }

[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, forget_pool);

}  // namespace

void set_num_threads(int n) { num_threads.store(n); }

int get_num_threads() { return num_threads.load(); }

void detail::run(Index count, Index grain, Piece piece, const void* body) {
  const Index threads = std::min<Index>(num_threads.load(std::memory_order_relaxed), (count + grain - 1) / grain);
  if (threads > 1) {
    const Index pieces = threads * kPiecesPerThread;
    Job job(count, std::max(grain, (count + pieces - 1) / pieces), piece, body);
    if (pool().run(job, static_cast<int>(threads) - 1)) return job.rethrow();
  }
  piece(body, 0, count);
}

}  // namespace xhat
