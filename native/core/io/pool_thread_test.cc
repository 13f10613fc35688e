// The pool against real files: what arrives where, what errors say, and that cancel() is the end.
#include "io/pool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>

#include "base/test.h"

using namespace hv;
using namespace hv::io;

namespace {

constexpr std::uint64_t kMemory = 1 << 20;

struct Rig {
  Rig() {
    std::string error;
    memory = GuestMemory::create(kMemory, error);
    pool = std::make_unique<Pool>(memory, [this] { ++signals; });
  }

  FileId file(std::uint64_t size, int flags = O_RDWR) {
    char path[] = "/tmp/xhyved-pool-XXXXXX";
    fd = ::mkstemp(path);
    if (::ftruncate(fd, static_cast<off_t>(size)) != 0) return 0;
    const int second = ::open(path, flags | O_CLOEXEC);
    ::unlink(path);
    return pool->add(second);
  }

  // Waits for so many; their errors by tag.
  std::map<std::uint32_t, int> collect(std::size_t count) {
    std::map<std::uint32_t, int> errors;
    while (errors.size() < count) {
      std::array<Completion, 3> some{};
      const std::size_t got = pool->take(some);
      for (std::size_t i = 0; i < got; ++i) errors[some[i].tag] = some[i].error;
      if (got == 0) std::this_thread::yield();
    }
    return errors;
  }

  int one(Request request) {
    request.tag = 77;
    pool->submit({std::move(request)});
    return collect(1)[77];
  }

  std::uint8_t* at(std::uint64_t gpa) { return memory->host(Gpa{gpa}); }
  int byte(off_t offset) {
    std::uint8_t value = 0;
    return ::pread(fd, &value, 1, offset) == 1 ? value : -1;
  }

  ~Rig() {
    pool.reset();
    if (fd >= 0) ::close(fd);
  }

  std::atomic<int> signals{0};
  std::shared_ptr<GuestMemory> memory;
  std::unique_ptr<Pool> pool;
  int fd = -1;
};

Request transfer(Op op, FileId file, std::uint64_t offset, std::vector<Piece> pieces) {
  std::uint64_t length = 0;
  for (const Piece& piece : pieces) length += piece.length;
  return {op, file, 0, offset, length, std::move(pieces)};
}

TEST(writes_and_reads_pieces_in_order) {
  Rig rig;
  const FileId file = rig.file(65536);
  std::memset(rig.at(0x1000), 0xaa, 512);
  std::memset(rig.at(0x3000), 0xbb, 512);
  EXPECT_EQ(rig.one(transfer(Op::kWrite, file, 1024, {{Gpa{0x1000}, 512}, {Gpa{0x3000}, 512}})), 0);
  EXPECT_EQ(rig.byte(1023), 0);
  EXPECT_EQ(rig.byte(1024), 0xaa);
  EXPECT_EQ(rig.byte(1536), 0xbb);
  EXPECT_EQ(rig.one(transfer(Op::kRead, file, 1536, {{Gpa{0x8000}, 16}})), 0);
  EXPECT_EQ(+*rig.at(0x800f), 0xbb);
  EXPECT_EQ(+*rig.at(0x8010), 0);
}

TEST(a_read_past_the_end_has_zeros) {
  Rig rig;
  const FileId file = rig.file(600);
  std::memset(rig.at(0x1000), 0xcc, 1024);
  EXPECT_EQ(rig.one(transfer(Op::kRead, file, 512, {{Gpa{0x1000}, 512}})), 0);
  EXPECT_EQ(+*rig.at(0x11ff), 0);
  EXPECT_EQ(+*rig.at(0x1200), 0xcc);
}

TEST(a_read_makes_decoded_code_stale) {
  Rig rig;
  const FileId file = rig.file(4096);
  CodePage& page = rig.memory->code_page(Gpa{0x2000});
  rig.memory->epochs().protect(page, ~0ull);
  const auto before = page.version.load();
  rig.one(transfer(Op::kRead, file, 0, {{Gpa{0x2000}, 512}}));
  EXPECT_EQ(page.version.load() != before, true);
}

TEST(zeroes_and_discards) {
  Rig rig;
  const FileId file = rig.file(1 << 20);
  std::memset(rig.at(0), 0xee, 65536);
  for (const Op op : {Op::kZero, Op::kUnmap, Op::kDiscard}) {
    rig.one(transfer(Op::kWrite, file, 0, {{Gpa{0}, 65536}}));
    Request request{op, file, 0, 4096, 8192};
    EXPECT_EQ(rig.one(request), 0);
    EXPECT_EQ(rig.byte(4095), 0xee);
    if (op != Op::kDiscard) {
      EXPECT_EQ(rig.byte(4096), 0);
      EXPECT_EQ(rig.byte(12287), 0);
    }
    EXPECT_EQ(rig.byte(12288), 0xee);
  }
  EXPECT_EQ(rig.one({Op::kSync, file}), 0);
}

TEST(says_what_failed) {
  Rig rig;
  const FileId readonly = rig.file(4096, O_RDONLY);
  EXPECT_EQ(rig.one(transfer(Op::kWrite, readonly, 0, {{Gpa{0}, 512}})), EBADF);
  EXPECT_EQ(rig.one(transfer(Op::kRead, readonly, 0, {{Gpa{kMemory - 1}, 512}})), EFAULT);
  EXPECT_EQ(rig.one(transfer(Op::kRead, readonly + 9, 0, {{Gpa{0}, 512}})), EBADF);
  EXPECT_EQ(rig.one({Op::kZero, readonly, 0, ~0ull, 512}), EINVAL);
}

TEST(many_requests_end_once_each) {
  Rig rig;
  const FileId file = rig.file(1 << 20);
  std::vector<Request> batch;
  for (std::uint32_t i = 0; i < 200; ++i) {
    Request one = transfer(i % 2 ? Op::kRead : Op::kWrite, file, 512 * i, {{Gpa{512 * i}, 512}});
    one.tag = i;
    batch.push_back(std::move(one));
  }
  rig.pool->submit(std::move(batch));
  const auto errors = rig.collect(200);
  EXPECT_EQ(errors.size(), 200u);
  for (const auto& [tag, error] : errors) EXPECT_EQ(error, 0);
}

TEST(after_cancel_nothing_moves) {
  Rig rig;
  const FileId file = rig.file(1 << 20);
  for (int round = 0; round < 20; ++round) {
    std::vector<Request> batch;
    for (int i = 0; i < 50; ++i)
      batch.push_back(transfer(Op::kWrite, file, 4096, {{Gpa{0}, 65536}}));
    rig.pool->submit(std::move(batch));
    rig.pool->cancel(file);
    std::memset(rig.at(0), round, 65536);  // a thread still at it would be a race
    std::array<Completion, 8> some{};
    EXPECT_EQ(rig.pool->take(some), 0u);
  }
  rig.pool->close(file);
  EXPECT_EQ(rig.one(transfer(Op::kWrite, file, 0, {{Gpa{0}, 512}})), EBADF);
}

TEST(is_destroyed_amid_its_work) {
  Rig rig;
  const FileId file = rig.file(1 << 20);
  std::vector<Request> batch(100, transfer(Op::kWrite, file, 0, {{Gpa{0}, 65536}}));
  rig.pool->submit(std::move(batch));
  rig.pool.reset();
}

}  // namespace

TEST_MAIN()
