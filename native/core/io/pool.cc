#include "io/pool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/thread.h"
#include "io/host_file.h"

namespace hv::io {
namespace {

constexpr std::size_t kMostPieces = 1024;  // IOV_MAX of Linux and macOS
constexpr std::uint64_t kMostNow = 128 * 1024;
constexpr std::uint64_t kMostOffset = (1ull << 62);
constexpr std::size_t kZeros = 64 * 1024;

constexpr std::uintptr_t kPage = 4096;
constexpr std::size_t kMostCopied = 1024 * 1024;

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

bool aligned(std::span<const iovec> pieces, std::size_t alignment) {
  return std::ranges::all_of(pieces, [alignment](const iovec& piece) {
    return (reinterpret_cast<std::uintptr_t>(piece.iov_base) | piece.iov_len) % alignment == 0;
  });
}

// nullptr where the piece is not all in the buffer, or there is none.
std::uint8_t* within(const std::shared_ptr<Buffer>& buffer, const Piece& piece) {
  if (buffer == nullptr) return nullptr;
  const std::span<std::uint8_t> bytes = buffer->bytes();
  const std::uint64_t offset = (raw(piece.at) - kBufferBase) % kBufferWindow;
  if (offset > bytes.size() || piece.length > bytes.size() - offset) return nullptr;
  return bytes.data() + offset;
}

std::size_t length_of(std::span<const iovec> pieces) {
  std::size_t sum = 0;
  for (const iovec& piece : pieces) sum += piece.iov_len;
  return sum;
}

// 0 or an errno; all or nothing, but for a file that ends before: zeros are read then.
int transfer(bool reading, int fd, std::span<iovec> left, off_t offset) {
  while (!left.empty()) {
    const int count = static_cast<int>(left.size());
    const ssize_t done = reading ? ::preadv(fd, left.data(), count, offset)
                                 : ::pwritev(fd, left.data(), count, offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    if (done == 0 && !reading) return EIO;
    if (done == 0) return fill_zeros(left), 0;
    offset += done;
    advance(left, static_cast<std::size_t>(done));
  }
  return 0;
}

// Between `bytes` and the front of `pieces`, which it takes off.
void copy(bool into_pieces, std::span<std::uint8_t> bytes, std::span<iovec>& pieces) {
  while (!bytes.empty() && !pieces.empty()) {
    const std::size_t part = std::min(bytes.size(), pieces.front().iov_len);
    void* const piece = pieces.front().iov_base;
    if (into_pieces) std::memcpy(piece, bytes.data(), part);
    else std::memcpy(bytes.data(), piece, part);
    bytes = bytes.subspan(part);
    advance(pieces, part);
  }
}

// As transfer(), by way of memory that is aligned.
int transfer_copied(bool reading, int fd, std::span<iovec> left, off_t offset) {
  std::size_t length = length_of(left);
  const std::shared_ptr<Buffer> buffer = Buffer::create(std::min(length, kMostCopied));
  if (buffer == nullptr) return ENOMEM;
  while (length != 0) {
    const std::span<std::uint8_t> part = buffer->bytes().first(std::min(length, kMostCopied));
    if (!reading) copy(false, part, left);
    iovec one{part.data(), part.size()};
    if (const int error = transfer(reading, fd, {&one, 1}, offset)) return error;
    if (reading) copy(true, part, left);
    offset += static_cast<off_t>(part.size());
    length -= part.size();
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

std::shared_ptr<Buffer> Buffer::create(std::size_t size) {
  const std::size_t whole = (std::max<std::size_t>(size, 1) + kPage - 1) / kPage * kPage;
  auto* const data = static_cast<std::uint8_t*>(std::aligned_alloc(kPage, whole));
  if (data == nullptr) return nullptr;
  std::memset(data, 0, whole);
  return std::shared_ptr<Buffer>{new Buffer{data, size}};
}

Buffer::~Buffer() { std::free(data_); }

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

FileId Pool::add(int fd, std::size_t alignment) {
  std::scoped_lock hold{mutex_};
  File& file = files_[next_file_];
  file.fd = fd;
  file.alignment = alignment;
  return next_file_++;
}

std::optional<FileId> Pool::twin(FileId file) {
  std::size_t alignment = 1;
  int fd = -1;
  {
    std::scoped_lock hold{mutex_};
    const auto found = files_.find(file);
    if (found == files_.end()) return std::nullopt;
    fd = ::fcntl(found->second.fd, F_DUPFD_CLOEXEC, 0);
    alignment = found->second.alignment;
  }
  if (fd < 0) return std::nullopt;
  return add(fd, alignment);
}

std::optional<std::uint64_t> Pool::add_buffer(std::shared_ptr<Buffer> buffer) {
  if (buffers_.size() >= kMostBuffers || buffer->bytes().size() > kBufferWindow) return std::nullopt;
  // The first window that is free: mostly the one after the last.
  std::uint64_t window = buffers_.empty() ? 0 : buffers_.rbegin()->first + 1;
  if (window >= kMostBuffers)
    for (window = 0; buffers_.contains(window);) ++window;
  buffers_[window] = std::move(buffer);
  return kBufferBase + window * kBufferWindow;
}

void Pool::drop_buffer(std::uint64_t address) {
  if (address >= kBufferBase) buffers_.erase((address - kBufferBase) / kBufferWindow);
}

void Pool::hold_buffers(Request& request) const {
  for (const Piece& piece : request.pieces) {
    if (raw(piece.at) < kBufferBase) continue;
    const auto found = buffers_.find((raw(piece.at) - kBufferBase) / kBufferWindow);
    request.buffers.push_back(found == buffers_.end() ? nullptr : found->second);
  }
}

void Pool::start_threads() {
  while (threads_.size() < thread_count_) threads_.emplace_back([this] { work(); });
}

bool Pool::submit(std::vector<Request> batch) {
  std::size_t queued = 0;
  for (Request& request : batch) {
    hold_buffers(request);
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
  if ((request.op != Op::kRead && request.op != Op::kClear) || request.length > kMostNow)
    return false;
  if (request.op == Op::kClear) {
    const int error = clear(request);
    std::scoped_lock hold{mutex_};
    completed_.push_back({request.file, request.tag, error});
    return true;
  }
  Pieces pieces;
  if (!map(request, pieces)) return false;
  int fd = -1;
  {
    std::scoped_lock hold{mutex_};
    const auto found = files_.find(request.file);
    if (found == files_.end() || found->second.alignment > 1) return false;
    fd = found->second.fd;
  }
  const ssize_t done =
      host::read_now(fd, pieces.data(), static_cast<int>(pieces.size()), request.offset);
  if (done < 0 || static_cast<std::uint64_t>(done) != request.length) return false;
  written(request);
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
    const int error = perform(request, file.fd, file.alignment);
    hold.lock();
    push({request.file, request.tag, error});
    if (--file.running == 0) idle_.notify_all();
  }
}

void Pool::push(const Completion& completion) {
  completed_.push_back(completion);
  if (completed_.size() == 1) ready_();
}

int Pool::perform(const Request& request, int fd, std::size_t alignment) const {
  if (request.offset > kMostOffset || request.length > kMostOffset) return EINVAL;
  switch (request.op) {
    case Op::kRead:
    case Op::kWrite:
      return move(request, fd, alignment);
    case Op::kSync:
      return host::sync(fd);
    case Op::kDiscard: {
      const int error = host::discard(fd, request.offset, request.length);
      return error == EOPNOTSUPP ? 0 : error;
    }
    case Op::kZero:
    case Op::kUnmap:
      return zero(fd, request, request.op == Op::kUnmap);
    case Op::kClear:
      return clear(request);
  }
  return EINVAL;
}

bool Pool::map(const Request& request, Pieces& out) const {
  if (request.pieces.size() > kMostPieces) return false;
  out.reserve(request.pieces.size());
  std::size_t next = 0;
  for (const Piece& piece : request.pieces) {
    const bool guest = raw(piece.at) < kBufferBase;
    std::uint8_t* const at =
        guest ? memory_->host(piece.at, piece.length) : within(request.buffers[next++], piece);
    if (at == nullptr) return false;
    out.push_back({at, static_cast<std::size_t>(piece.length)});
  }
  return true;
}

void Pool::written(const Request& request) const {
  for (const Piece& piece : request.pieces)
    if (raw(piece.at) < kBufferBase) memory_->written(piece.at, piece.length);
}

int Pool::move(const Request& request, int fd, std::size_t alignment) const {
  Pieces pieces;
  if (!map(request, pieces)) return EFAULT;
  const bool reading = request.op == Op::kRead;
  const auto offset = static_cast<off_t>(request.offset);
  const int error = aligned(pieces, alignment)
                        ? transfer(reading, fd, pieces, offset)
                        : transfer_copied(reading, fd, pieces, offset);
  if (reading) written(request);
  return error;
}

int Pool::clear(const Request& request) const {
  Pieces pieces;
  if (!map(request, pieces)) return EFAULT;
  fill_zeros(pieces);
  written(request);
  return 0;
}

}  // namespace hv::io
