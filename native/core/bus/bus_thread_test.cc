// Two vCPU threads against a consumer that plays JavaScript: the order and waiting rules of
// design.md, "Exits".
#include "bus/bus.h"

#include <atomic>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "base/test.h"
#include "bus/consumer.h"

using namespace hv;

namespace {

constexpr std::uint64_t kBase = 0x3f8;

// A bus with one range of 8 ports, and a consumer thread.
struct Rig {
  explicit Rig(Consumer::Handler handler, std::vector<RegisterWays> ways, VcpuIndex vcpus = 2)
      : bus{SharedWire::create(vcpus), [this] { consumer->wake(); },
            [this](const Bus::Unclaimed&) { ++unclaimed; }},
        consumer{std::make_unique<Consumer>(bus, std::move(handler))} {
    RangeSpec spec;
    spec.name = "device";
    spec.base = kBase;
    spec.length = 8;
    spec.ways = std::move(ways);
    EXPECT_EQ(bus.map().add(std::move(spec), range), "");
    thread = std::thread{[this] { consumer->run_until([this] { return stop.load(); }); }};
  }
  ~Rig() {
    stop = true;
    consumer->wake();
    thread.join();
  }
  void out(VcpuIndex vcpu, unsigned offset, std::uint32_t value, unsigned size = 1) {
    bus.write(vcpu, Space::kPorts, kBase + offset, size, value);
  }
  std::uint64_t in(VcpuIndex vcpu, unsigned offset, unsigned size = 1) {
    return bus.read(vcpu, Space::kPorts, kBase + offset, size);
  }

  Bus bus;
  std::unique_ptr<Consumer> consumer;
  Range* range = nullptr;
  std::atomic<int> unclaimed{0};
  std::atomic<bool> stop{false};
  std::thread thread;
};

RegisterWays ways(std::uint32_t at, std::uint32_t length, ReadWay read, WriteWay write) {
  return {at, length, read, write, 0, nullptr, 0, 0};
}

struct FakeLine final : LevelLine {
  void set(bool now) override { level = now; }
  std::atomic<bool> level{false};
};

}  // namespace

// PCI Local Bus Specification 3.0, 3.2.2.3.2: 31 enable, 23:16 bus, 15:11 device, 10:8 function.
TEST(configuration_reads_take_no_handler_where_ecam_publishes) {
  std::vector<Served> asked;
  std::mutex mutex;
  RegisterWays latch = ways(0, 4, ReadWay::kLatch, WriteWay::kLatch);
  latch.latch_mask = 0x80fffffc;
  RegisterWays data = ways(4, 4, ReadWay::kConfiguration, WriteWay::kDirect);
  data.configuration = 0xe0000000;
  Rig rig{[&](const Served& s) -> std::uint32_t {
            std::scoped_lock hold{mutex};
            asked.push_back(s);
            return 0x1234;
          },
          {latch, data}};
  const auto map = [&](std::uint64_t base, std::uint32_t length, ReadWay read) {
    RangeSpec spec{"ecam", Space::kMemory, base, length, {}, nullptr};
    spec.ways = {ways(0, length, read, WriteWay::kDirect)};
    Range* range = nullptr;
    EXPECT_EQ(rig.bus.map().add(std::move(spec), range), "");
    return range;
  };
  Range* const bus0 = map(0xe0000000, 1 << 20, ReadWay::kShadow);
  map(0xe0100000, 1 << 20, ReadWay::kOnes);
  const std::uint32_t at = 3 << 15 | 1 << 12 | 0x2c;  // 00:03.1, dword 0x2c
  for (std::uint32_t i = 0; i < 4; ++i)
    bus0->block->shadow()[at + i] = static_cast<std::uint8_t>(0xa0 + i);

  rig.out(0, 0, 0xff00192f, 4);  // reserved bits are written too
  EXPECT_EQ(rig.in(0, 0, 4), 0x8000192cu);
  EXPECT_EQ(rig.in(1, 4, 4), 0xa3a2a1a0u);
  EXPECT_EQ(rig.in(1, 6, 2), 0xa3a2u);
  EXPECT_EQ(rig.in(1, 5, 1), 0xa1u);
  rig.out(0, 0, 0x0000192c, 4);  // not enabled
  EXPECT_EQ(rig.in(0, 4, 4), 0xffffffffu);
  rig.out(0, 0, 0x8001192c, 4);  // nobody on bus 1
  EXPECT_EQ(rig.in(0, 4, 2), 0xffffu);
  {
    std::scoped_lock hold{mutex};
    EXPECT_EQ(asked.size(), 0u);
  }
  // The device is asked of a part of the latch, of what is not aligned, and of what nobody maps.
  rig.out(0, 1, 6, 1);
  EXPECT_EQ(rig.in(0, 1, 1), 0x34u);
  EXPECT_EQ(rig.in(0, 5, 2), 0x1234u);
  rig.out(0, 0, 0x80021900, 4);
  EXPECT_EQ(rig.in(0, 4, 4), 0x1234u);
  rig.out(0, 4, 0x55, 1);
  EXPECT_EQ(rig.in(0, 0, 4), 0x80021900u);
  std::scoped_lock hold{mutex};
  EXPECT_EQ(asked.size(), 5u);
}

TEST(what_is_no_address_and_data_port_is_refused) {
  BusMap map;
  Range* range = nullptr;
  const auto add = [&](std::vector<RegisterWays> declared) {
    return map.add({"odd", Space::kPorts, 0x100, 8, std::move(declared), nullptr}, range);
  };
  const RegisterWays latch = ways(0, 4, ReadWay::kLatch, WriteWay::kLatch);
  const RegisterWays data = ways(4, 4, ReadWay::kConfiguration, WriteWay::kDirect);
  EXPECT_EQ(add({ways(0, 2, ReadWay::kLatch, WriteWay::kDirect)}).empty(), false);
  EXPECT_EQ(add({ways(2, 4, ReadWay::kDirect, WriteWay::kLatch)}).empty(), false);
  EXPECT_EQ(add({data}).empty(), false);
  EXPECT_EQ(add({ways(0, 4, ReadWay::kConfiguration, WriteWay::kDirect)}).empty(), false);
  EXPECT_EQ(add({ways(0, 4, ReadWay::kShadow, WriteWay::kDirect), data}).empty(), false);
  EXPECT_EQ(add({latch, data}), "");
}

TEST(a_direct_access_is_served_after_every_earlier_post_of_any_vcpu) {
  std::atomic<std::uint32_t> latest[2] = {0, 0};
  std::atomic<int> wrong{0};
  Rig rig{[&](const Served& s) -> std::uint32_t {
            if (s.kind == wire::Kind::kWrite && s.offset < 2) latest[s.offset] = s.value;
            return s.offset < 2 ? latest[s.offset].load() : 0;
          },
          {ways(0, 2, ReadWay::kDirect, WriteWay::kPosted)}};
  std::atomic<std::uint32_t> posted[2] = {0, 0};
  const auto guest = [&](VcpuIndex me) {
    for (std::uint32_t i = 1; i <= 3000; ++i) {
      rig.out(me, me, i & 0xff);
      posted[me].store(i, std::memory_order_release);
      if (rig.in(me, me) != (i & 0xff)) ++wrong;  // its own posts
      const std::uint32_t other = posted[1 - me].load(std::memory_order_acquire);
      const std::uint64_t seen = rig.in(me, 1 - me);  // and the other's that it knows of
      const std::uint32_t newest = posted[1 - me].load(std::memory_order_acquire) + 1;
      bool possible = false;
      for (std::uint32_t v = other; v <= newest; ++v) possible |= (v & 0xff) == seen;
      if (!possible) ++wrong;
    }
  };
  std::thread a{guest, 0}, b{guest, 1};
  a.join();
  b.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST(posts_are_served_in_the_order_in_which_the_guest_made_them) {
  std::vector<std::uint32_t> served;
  std::mutex mutex;
  Rig rig{[&](const Served& s) -> std::uint32_t {
            std::scoped_lock hold{mutex};
            if (s.kind == wire::Kind::kWrite) served.push_back(s.value);
            return 0;
          },
          {ways(0, 4, ReadWay::kDirect, WriteWay::kPosted)}};
  // The two take turns, so that the whole order is known.
  std::atomic<std::uint32_t> turn{0};
  const auto guest = [&](VcpuIndex me) {
    for (std::uint32_t i = 0; i < 2000; ++i) {
      const std::uint32_t mine = 2 * i + me;
      while (turn.load(std::memory_order_acquire) != mine) std::this_thread::yield();
      rig.out(me, 0, mine, 4);
      turn.store(mine + 1, std::memory_order_release);
    }
  };
  std::thread a{guest, 0}, b{guest, 1};
  a.join();
  b.join();
  (void)rig.in(0, 4);
  std::scoped_lock hold{mutex};
  REQUIRE(served.size() == 4000);
  for (std::uint32_t i = 0; i < served.size(); ++i)
    if (served[i] != i) return (void)EXPECT_EQ(served[i], i);
}

TEST(a_full_ring_makes_the_vcpu_wait_and_drops_nothing) {
  std::atomic<std::uint32_t> count{0};
  std::atomic<bool> slow{true};
  Rig rig{[&](const Served& s) -> std::uint32_t {
            while (slow) std::this_thread::yield();
            count += s.kind == wire::Kind::kWrite;
            return 0;
          },
          {ways(0, 1, ReadWay::kDirect, WriteWay::kPosted)}};
  std::thread guest{[&] {
    for (int i = 0; i < 5000; ++i) rig.out(0, 0, 1);
  }};
  while (rig.range->counts.posted.load() < wire::kRingEntries) std::this_thread::yield();
  EXPECT_EQ(count.load(), 0u);
  slow = false;
  guest.join();
  rig.bus.channel().drain(0);
  EXPECT_EQ(count.load(), 5000u);
}

TEST(a_shadow_read_is_direct_while_a_write_is_pending_and_a_stable_one_never) {
  std::atomic<bool> hold{false};
  std::atomic<int> asked{0};
  Rig rig{[&](const Served& s) -> std::uint32_t {
            if (s.kind == wire::Kind::kWrite) {
              while (hold) std::this_thread::yield();
              __atomic_store_n(s.range->block->shadow(), static_cast<std::uint8_t>(s.value),
                               __ATOMIC_RELEASE);
              return 0;
            }
            ++asked;
            return __atomic_load_n(s.range->block->shadow(), __ATOMIC_ACQUIRE);
          },
          {ways(0, 1, ReadWay::kShadow, WriteWay::kPosted),
           ways(1, 1, ReadWay::kStable, WriteWay::kPosted)}};
  rig.range->block->shadow()[1] = 0x60;
  EXPECT_EQ(rig.in(0, 0), 0u);
  EXPECT_EQ(asked.load(), 0);
  hold = true;
  rig.out(0, 0, 0x77);
  EXPECT_EQ(rig.in(1, 1), 0x60u);
  std::thread release{[&] { hold = false; }};
  EXPECT_EQ(rig.in(0, 0), 0x77u);  // whichever way it went
  release.join();
  for (std::uint32_t i = 0; i < 2000; ++i) {
    rig.out(0, 0, i & 0xff);
    if (rig.in(0, 0) != (i & 0xff)) return (void)EXPECT_EQ(rig.in(0, 0), i & 0xff);
  }
}

TEST(doorbells_are_coalesced_but_never_over_a_posted_write) {
  std::vector<std::pair<wire::Kind, std::uint32_t>> served;
  std::atomic<bool> hold{true};
  std::mutex mutex;
  Rig rig{[&](const Served& s) -> std::uint32_t {
            while (hold) std::this_thread::yield();
            std::scoped_lock guard{mutex};
            if (s.offset != 7) served.emplace_back(s.kind, s.value);
            return 0;
          },
          {ways(0, 1, ReadWay::kDirect, WriteWay::kPosted),
           ways(2, 2, ReadWay::kDirect, WriteWay::kDoorbell)}};
  rig.out(0, 0, 1);  // keeps the consumer busy
  rig.out(0, 2, 5, 2);
  rig.out(0, 2, 5, 2);  // goes with the one before
  rig.out(0, 2, 6, 2);  // another queue
  rig.out(0, 0, 2);
  rig.out(0, 2, 5, 2);  // must come after the write of 2
  rig.out(0, 2, 5, 2);
  hold = false;
  (void)rig.in(0, 7);
  std::scoped_lock guard{mutex};
  using enum wire::Kind;
  const std::vector<std::pair<wire::Kind, std::uint32_t>> wanted = {
      {kWrite, 1}, {kDoorbell, 5}, {kDoorbell, 6}, {kWrite, 2}, {kDoorbell, 5}};
  EXPECT(served == wanted);
}

TEST(no_doorbell_is_lost) {
  // The guest adds work, then rings; the consumer takes all work that it sees at a doorbell.
  std::atomic<std::uint32_t> work{0}, taken{0};
  Rig rig{[&](const Served& s) -> std::uint32_t {
            if (s.kind == wire::Kind::kDoorbell) taken = work.load(std::memory_order_relaxed);
            return 0;
          },
          {ways(2, 2, ReadWay::kDirect, WriteWay::kDoorbell)}};
  for (std::uint32_t i = 1; i <= 20000; ++i) {
    work.store(i, std::memory_order_relaxed);
    rig.out(0, 2, 0, 2);
  }
  rig.bus.channel().drain(0);
  EXPECT_EQ(taken.load(), 20000u);
}

TEST(write_one_to_clear_lowers_the_line_before_the_vcpu_goes_on) {
  FakeLine line;
  RegisterWays status = ways(0, 4, ReadWay::kShadow, WriteWay::kPosted);
  status.clear_mask = 0xff;
  status.line = &line;
  std::uint32_t model = 0;  // the consumer's
  Rig rig{[&](const Served& s) -> std::uint32_t {
            // The device only ever sets the published bits; the vCPU's write has cleared them.
            if (s.kind == wire::Kind::kWrite && s.offset == 0) model &= ~s.value;
            if (s.offset != 4 || s.kind != wire::Kind::kWrite) return model;
            model |= s.value;
            __atomic_fetch_or(reinterpret_cast<std::uint32_t*>(s.range->block->shadow()), s.value,
                              __ATOMIC_SEQ_CST);
            line.set(true);
            return model;
          },
          {status}};
  for (int i = 0; i < 1000; ++i) {
    rig.out(0, 4, 3, 4);  // direct: an event
    if (!line.level) return (void)EXPECT(line.level.load());
    rig.out(0, 0, 1, 4);
    if (!line.level) return (void)EXPECT(line.level.load());
    rig.out(0, 0, 2, 4);
    if (line.level) return (void)EXPECT(!line.level.load());
    if (rig.in(0, 0, 4) != 0) return (void)EXPECT_EQ(rig.in(0, 0, 4), 0u);
  }
}

TEST(every_wait_ends_at_once_when_the_vm_ends) {
  std::atomic<bool> hold{true};
  Rig rig{[&](const Served&) -> std::uint32_t {
            while (hold) std::this_thread::yield();
            return 0;
          },
          {ways(0, 1, ReadWay::kDirect, WriteWay::kPosted)}};
  std::thread asks{[&] { EXPECT_EQ(rig.in(0, 4), 0xffu); }};
  std::thread posts{[&] {
    for (int i = 0; i < 3000; ++i) rig.out(1, 0, 1);
  }};
  while (rig.range->counts.posted.load() < wire::kRingEntries) std::this_thread::yield();
  rig.bus.channel().cancel();
  asks.join();
  posts.join();
  hold = false;
}

TEST(a_moved_range_answers_at_its_new_place_alone) {
  // As a BAR write: the handler moves the range before the writer goes on.
  Rig* self = nullptr;
  Rig rig{[&self](const Served& s) -> std::uint32_t {
            if (s.kind == wire::Kind::kWrite) self->bus.map().move(s.range->id, s.value);
            return 0x42;
          },
          {}};
  self = &rig;
  std::atomic<bool> stop{false};
  std::atomic<int> strange{0};
  std::thread other{[&] {
    while (!stop) {
      const std::uint64_t value = rig.bus.read(1, Space::kPorts, kBase + 1, 1);
      strange += value != 0x42 && value != 0xff;
    }
  }};
  for (std::uint64_t i = 0; i < 500; ++i) {
    const std::uint64_t from = i % 2 == 0 ? kBase : 0x2000, to = i % 2 == 0 ? 0x2000 : kBase;
    rig.bus.write(0, Space::kPorts, from, 4, to);
    if (rig.bus.read(0, Space::kPorts, from, 1) != 0xff) ++strange;
    if (rig.bus.read(0, Space::kPorts, to + 7, 1) != 0x42) ++strange;
  }
  stop = true;
  other.join();
  EXPECT_EQ(strange.load(), 0);
}

TEST(an_access_over_the_end_of_a_range_is_split) {
  Rig rig{[](const Served& s) -> std::uint32_t { return 0x11111111u * (s.offset & 15); }, {}};
  // Bytes 6 and 7 are the device's (as one access of two), 8 and 9 nobody's.
  EXPECT_EQ(rig.in(0, 6, 4), 0xffff6666u);
  EXPECT_EQ(rig.unclaimed.load(), 1);
  EXPECT_EQ(rig.bus.read(0, Space::kPorts, 0xffff, 1), 0xffu);
  EXPECT_EQ(rig.bus.read(0, Space::kMemory, 0xfffffffffff8, 8), ~0ull);
  // Eight bytes come as two of four, low half first.
  EXPECT_EQ(rig.in(0, 0, 8), 0x44444444'00000000u);
}

TEST(ranges_of_one_space_never_overlap) {
  Rig rig{[](const Served&) -> std::uint32_t { return 0; }, {}};
  const auto add = [&](Space space, std::uint64_t base, std::uint64_t length) {
    RangeSpec spec;
    spec.name = "other";
    spec.space = space;
    spec.base = base;
    spec.length = length;
    Range* added = nullptr;
    return rig.bus.map().add(std::move(spec), added).empty();
  };
  EXPECT(!add(Space::kPorts, kBase + 7, 1));
  EXPECT(!add(Space::kPorts, 0x3f0, 9));
  EXPECT(!add(Space::kPorts, 0xffff, 2));
  EXPECT(!add(Space::kPorts, 0x100, 0));
  EXPECT(add(Space::kPorts, kBase + 8, 8));
  EXPECT(add(Space::kMemory, kBase, 8));
  EXPECT(!rig.bus.map().move(rig.range->id, kBase + 4).empty());
  EXPECT_EQ(rig.bus.map().enable(rig.range->id, false), "");
  EXPECT_EQ(rig.bus.map().move(rig.range->id, kBase + 4), "");
  EXPECT(!rig.bus.map().enable(rig.range->id, true).empty());
  EXPECT_EQ(rig.in(0, 0), 0xffu);
}

TEST_MAIN()
