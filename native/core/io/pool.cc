#include "io/pool.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/thread.h"
#include "io/host_file.h"

namespace hv::io {
namespace {

constexpr std::size_t kMostPieces = 1024;  // IOV_MAX of Linux and macOS
constexpr std::uint64_t kMostNow = 128 * 1024;
constexpr std::uint64_t kMostOffset = (1ull << 62);
constexpr std::size_t kZeros = 64 * 1024;

// Drops `done` bytes from the front.
void advance(std::span<iovec>& pieces, std::size_t done) {
  while (!pieces.empty() && done >= pieces.front().iov_len) {
    done -= pieces.front().iov_len;
    pieces = pieces.subspan(1);
  }
  if (done == 0) return;
  pieces.front().iov_base = static_cast<std::uint8_t*>(pieces.front().iov_base) + done;
  pieces.front().iov_len -= done;
}

void fill_zeros(std::span<iovec> pieces) {
  for (const iovec& piece : pieces) std::memset(piece.iov_base, 0, piece.iov_len);
}

int write_zeros(int fd, std::uint64_t offset, std::uint64_t length) {
  static const std::array<std::uint8_t, kZeros> zeros{};
  while (length != 0) {
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(length, kZeros));
    const ssize_t done = ::pwrite(fd, zeros.data(), part, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return done < 0 ? errno : EIO;
    offset += static_cast<std::uint64_t>(done);
    length -= static_cast<std::uint64_t>(done);
  }
  return 0;
}

int zero(int fd, const Request& request, bool unmap) {
  const std::uint64_t offset = request.offset, length = request.length;
  int error = unmap ? host::punch(fd, offset, length) : EOPNOTSUPP;
  if (error == EOPNOTSUPP) error = host::zero(fd, offset, length);
  return error == EOPNOTSUPP ? write_zeros(fd, offset, length) : error;
}

}  // namespace

Pool::Pool(std::shared_ptr<GuestMemory> memory, std::function<void()> ready, unsigned threads)
    : memory_{std::move(memory)}, ready_{std::move(ready)}, thread_count_{threads} {}

Pool::~Pool() {
  {
    std::scoped_lock hold{mutex_};
    stopping_ = true;
    waiting_.clear();
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  for (auto& [id, file] : files_) ::close(file.fd);
}

FileId Pool::add(int fd) {
  std::scoped_lock hold{mutex_};
  files_[next_file_].fd = fd;
  return next_file_++;
}

void Pool::start_threads() {
  while (threads_.size() < thread_count_) threads_.emplace_back([this] { work(); });
}

bool Pool::submit(std::vector<Request> batch) {
  std::size_t queued = 0;
  for (Request& request : batch) {
    if (try_now(request)) continue;
    std::scoped_lock hold{mutex_};
    waiting_.push_back(std::move(request));
    ++queued;
  }
  if (queued != 0) {
    start_threads();
    if (queued == 1) work_.notify_one();
    else work_.notify_all();
  }
  std::scoped_lock hold{mutex_};
  return !completed_.empty();
}

bool Pool::try_now(const Request& request) {
  if (request.op != Op::kRead || request.length > kMostNow) return false;
  std::vector<iovec> pieces;
  if (!map(request, pieces)) return false;
  int fd = -1;
  {
    std::scoped_lock hold{mutex_};
    const auto found = files_.find(request.file);
    if (found == files_.end()) return false;
    fd = found->second.fd;
  }
  const ssize_t done =
      host::read_now(fd, pieces.data(), static_cast<int>(pieces.size()), request.offset);
  if (done < 0 || static_cast<std::uint64_t>(done) != request.length) return false;
  for (const Piece& piece : request.pieces) memory_->written(piece.at, piece.length);
  std::scoped_lock hold{mutex_};
  completed_.push_back({request.file, request.tag, 0});
  return true;
}

std::size_t Pool::take(std::span<Completion> into) {
  std::scoped_lock hold{mutex_};
  const std::size_t count = std::min(into.size(), completed_.size());
  const auto end = completed_.begin() + static_cast<std::ptrdiff_t>(count);
  std::copy(completed_.begin(), end, into.begin());
  completed_.erase(completed_.begin(), end);
  return count;
}

void Pool::cancel(FileId file) {
  std::unique_lock hold{mutex_};
  const auto found = files_.find(file);
  if (found == files_.end()) return;
  std::erase_if(waiting_, [file](const Request& one) { return one.file == file; });
  idle_.wait(hold, [&found] { return found->second.running == 0; });
  std::erase_if(completed_, [file](const Completion& one) { return one.file == file; });
}

void Pool::close(FileId file) {
  cancel(file);
  std::scoped_lock hold{mutex_};
  const auto found = files_.find(file);
  if (found == files_.end()) return;
  ::close(found->second.fd);
  files_.erase(found);
}

void Pool::work() {
  hv::host::name_this_thread("io");
  hv::host::block_all_signals();
  std::unique_lock hold{mutex_};
  for (;;) {
    work_.wait(hold, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const Request request = std::move(waiting_.front());
    waiting_.pop_front();
    const auto found = files_.find(request.file);
    if (found == files_.end()) {
      push({request.file, request.tag, EBADF});
      continue;
    }
    File& file = found->second;  // cancel() and close() wait while it runs
    ++file.running;
    hold.unlock();
    const int error = perform(request, file.fd);
    hold.lock();
    push({request.file, request.tag, error});
    if (--file.running == 0) idle_.notify_all();
  }
}

void Pool::push(const Completion& completion) {
  completed_.push_back(completion);
  if (completed_.size() == 1) ready_();
}

int Pool::perform(const Request& request, int fd) const {
  if (request.offset > kMostOffset || request.length > kMostOffset) return EINVAL;
  switch (request.op) {
    case Op::kRead:
    case Op::kWrite:
      return move(request, fd);
    case Op::kSync:
      return host::sync(fd);
    case Op::kDiscard: {
      const int error = host::punch(fd, request.offset, request.length);
      return error == EOPNOTSUPP ? 0 : error;
    }
    case Op::kZero:
    case Op::kUnmap:
      return zero(fd, request, request.op == Op::kUnmap);
  }
  return EINVAL;
}

bool Pool::map(const Request& request, std::vector<iovec>& out) const {
  if (request.pieces.size() > kMostPieces) return false;
  out.reserve(request.pieces.size());
  for (const Piece& piece : request.pieces) {
    std::uint8_t* const at = memory_->host(piece.at, piece.length);
    if (at == nullptr) return false;
    out.push_back({at, static_cast<std::size_t>(piece.length)});
  }
  return true;
}

int Pool::move(const Request& request, int fd) const {
  std::vector<iovec> all;
  if (!map(request, all)) return EFAULT;
  const bool reading = request.op == Op::kRead;
  std::span<iovec> left{all};
  auto offset = static_cast<off_t>(request.offset);
  int error = 0;
  while (!left.empty() && error == 0) {
    const int count = static_cast<int>(left.size());
    const ssize_t done = reading ? ::preadv(fd, left.data(), count, offset)
                                 : ::pwritev(fd, left.data(), count, offset);
    if (done < 0) {
      if (errno != EINTR) error = errno;
      continue;
    }
    if (done == 0) {
      if (reading) fill_zeros(left);
      else error = EIO;
      break;
    }
    offset += done;
    advance(left, static_cast<std::size_t>(done));
  }
  if (reading)
    for (const Piece& piece : request.pieces) memory_->written(piece.at, piece.length);
  return error;
}

}  // namespace hv::io
