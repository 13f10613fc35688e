// Moves bytes between files and guest RAM on a few threads, in no particular order: a device that
// needs an order waits for one request before it submits the next.
//
// One thread, the owner's, calls everything here; `ready` is called by any. Reads that the host can
// serve from memory are done at once by submit(), which spares two changes of threads.
#pragma once
#include <sys/uio.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "memory/guest_memory.h"

namespace hv::io {

enum class Op : std::uint8_t {
  kRead,     // file to guest; past the end of the file there are zeros
  kWrite,    // guest to file
  kSync,     // everything that was completed before is on the medium
  kDiscard,  // the range is not needed any more: a hint
  kZero,     // the range reads as zeros and keeps its room
  kUnmap,    // the range reads as zeros and may lose its room
  kClear,    // the pieces become zeros; the file has no part in it
};
inline constexpr unsigned kOps = 7;

// Of guest RAM, or of a Buffer by its address.
struct Piece {
  Gpa at{};
  std::uint64_t length = 0;
};

// Memory of the host that pieces can name as they name guest RAM: what a disk format needs for its
// tables and for bytes on their way. Begins on a page.
class Buffer {
 public:
  static std::shared_ptr<Buffer> create(std::size_t size);  // zeros; nullptr: no memory
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::span<std::uint8_t> bytes() const { return {data_, size_}; }

 private:
  Buffer(std::uint8_t* data, std::size_t size) : data_{data}, size_{size} {}
  std::uint8_t* const data_;
  const std::size_t size_;
};

// Buffers have addresses from here on, above all guest RAM, each in a window of its own.
inline constexpr std::uint64_t kBufferBase = 1ull << 52;
inline constexpr std::uint64_t kBufferWindow = 1ull << 31;
inline constexpr std::uint64_t kMostBuffers = 1ull << 20;

using FileId = std::uint32_t;

struct Request {
  Op op = Op::kSync;
  FileId file = 0;
  std::uint32_t tag = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // for read and write the sum of the pieces
  std::vector<Piece> pieces = {};
  std::vector<std::shared_ptr<Buffer>> buffers = {};  // those that pieces name; submit() fills it in
};

struct Completion {
  FileId file;
  std::uint32_t tag;
  int error;  // 0 or an errno; read and write are whole or failed
};

class Pool {
 public:
  // `ready`: completions wait to be taken, and did not before.
  Pool(std::shared_ptr<GuestMemory> memory, std::function<void()> ready, unsigned threads = 4);
  ~Pool();  // drops what waits, waits for what runs, closes the files
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // The pool closes it. `alignment`: of memory that the file can move to and from, where the host's
  // page cache is not between (O_DIRECT); what is not aligned goes over a copy.
  FileId add(int fd, std::size_t alignment = 1);
  // The same open file once more, to be cancelled and closed by itself; nullopt: no descriptors.
  std::optional<FileId> twin(FileId file);

  // Its address; nullopt: there are too many.
  std::optional<std::uint64_t> add_buffer(std::shared_ptr<Buffer> buffer);
  // Requests that name it keep it.
  void drop_buffer(std::uint64_t address);

  // True where completions wait already.
  bool submit(std::vector<Request> batch);
  // As many as fit; fewer than that: there are no more.
  std::size_t take(std::span<Completion> into);
  // Nothing of this file touches guest memory or the file afterwards, and nothing more is heard of
  // it: drops what waits and waits for what runs.
  void cancel(FileId file);
  void close(FileId file);

 private:
  struct File {
    int fd = -1;
    std::size_t alignment = 1;
    unsigned running = 0;
  };
  using Pieces = std::vector<iovec>;

  void start_threads();
  void work();
  bool try_now(const Request& request);
  int perform(const Request& request, int fd, std::size_t alignment) const;
  int move(const Request& request, int fd, std::size_t alignment) const;
  int clear(const Request& request) const;
  void written(const Request& request) const;
  void hold_buffers(Request& request) const;
  bool map(const Request& request, Pieces& out) const;
  void push(const Completion& completion);  // with the lock held

  const std::shared_ptr<GuestMemory> memory_;
  const std::function<void()> ready_;
  const unsigned thread_count_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;
  std::condition_variable work_, idle_;
  std::deque<Request> waiting_;
  std::map<FileId, File> files_;
  std::vector<Completion> completed_;
  std::map<std::uint64_t, std::shared_ptr<Buffer>> buffers_;  // the owner's, by window
  FileId next_file_ = 0;
  bool stopping_ = false;
};

}  // namespace hv::io
