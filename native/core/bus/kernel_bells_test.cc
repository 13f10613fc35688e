// Doorbells that the kernel rings: where each hangs, and its place among what was posted.
#include "bus/kernel_bells.h"

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/test.h"
#include "bus/bus.h"
#include "bus/consumer.h"

using namespace hv;

namespace {

constexpr std::uint64_t kBar = 0xd000'0000;

class FakeBells final : public KernelBells {
 public:
  std::optional<std::uint32_t> make() override {
    if (live.size() >= most) return std::nullopt;
    live.insert(next);
    return next++;
  }
  bool hang(std::uint32_t bell, Space, std::uint64_t at) override {
    EXPECT(live.contains(bell));
    EXPECT(!hanging.contains(at));  // the kernel refuses a second one
    hanging[at] = bell;
    return true;
  }
  void take_down(std::uint32_t bell, Space, std::uint64_t at) override {
    EXPECT_EQ(hanging.at(at), bell);
    hanging.erase(at);
  }
  void drop(std::uint32_t bell) override {
    EXPECT_EQ(live.erase(bell), 1u);
    rung.erase(bell);
  }
  void collect(const Room& room, const Rang& rang) override {
    while (!rung.empty() && room()) {
      const auto [bell, times] = *rung.begin();
      rung.erase(rung.begin());
      rang(bell, times);
    }
  }
  int descriptor() const override { return -1; }
  // The guest's write.
  void write(std::uint64_t at) { ++rung[hanging.at(at)]; }

  std::size_t most = 100;
  std::uint32_t next = 0;
  std::set<std::uint32_t> live;
  std::map<std::uint64_t, std::uint32_t> hanging;
  std::map<std::uint32_t, std::uint64_t> rung;
};

// Three doorbells at 0, 4 and 8 that ring 70, 71 and 72, and a posted register at 12.
struct Rig {
  explicit Rig(std::size_t most = 100) {
    bells.most = most;
    bus.map().belfry().use(&bells);
    RangeSpec spec;
    spec.name = "device";
    spec.space = Space::kMemory;
    spec.base = kBar;
    spec.length = 16;
    for (std::uint32_t i = 0; i < 3; ++i) {
      RegisterWays& ways = spec.ways.emplace_back();
      ways = {4 * i, 4, ReadWay::kDirect, WriteWay::kDoorbell};
      ways.rings = 70 + i;
    }
    spec.ways.push_back({12, 4, ReadWay::kDirect, WriteWay::kPosted});
    EXPECT_EQ(bus.map().add(std::move(spec), range), "");
  }
  std::vector<std::uint64_t> places() const {
    std::vector<std::uint64_t> out;
    for (const auto& [at, bell] : bells.hanging) out.push_back(at);
    return out;
  }
  void write(std::uint64_t offset, std::uint32_t value) {
    bus.write(0, Space::kMemory, kBar + offset, 4, value);
  }
  void collect_and_serve() {
    bus.collect();
    consumer.serve();
  }

  using Offsets = std::vector<std::uint64_t>;
  FakeBells bells;
  Bus bus{SharedWire::create(1, true), [] {}, {}};
  Range* range = nullptr;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> seen;  // offset, value
  Consumer consumer{bus, [this](const Served& served) {
                      seen.emplace_back(served.offset, served.value);
                      return 0u;
                    }};
};

}  // namespace

TEST(they_hang_where_their_range_is) {
  Rig rig;
  BusMap& map = rig.bus.map();
  const std::uint32_t id = rig.range->id;
  EXPECT(rig.places() == Rig::Offsets({kBar, kBar + 4, kBar + 8}));
  EXPECT_EQ(map.move(id, kBar + 4), "");  // each but one where another was
  EXPECT(rig.places() == Rig::Offsets({kBar + 4, kBar + 8, kBar + 12}));
  EXPECT_EQ(map.enable(id, false), "");
  EXPECT(rig.places().empty());
  EXPECT_EQ(map.move(id, kBar), "");
  EXPECT(rig.places().empty());
  EXPECT_EQ(map.enable(id, true), "");
  EXPECT(rig.places() == Rig::Offsets({kBar, kBar + 4, kBar + 8}));
  EXPECT_EQ(map.remove(id), "");
  EXPECT(rig.places().empty());
  EXPECT(rig.bells.live.empty());
}

TEST(a_bell_is_served_after_what_was_posted_before_it) {
  Rig rig;
  rig.write(12, 1);
  rig.bells.write(kBar + 4);
  rig.bells.write(kBar + 4);
  rig.write(12, 2);
  rig.collect_and_serve();
  const std::vector<std::pair<std::uint32_t, std::uint32_t>> wanted = {{12, 1}, {12, 2}, {4, 71}};
  EXPECT(rig.seen == wanted);
  EXPECT_EQ(rig.range->counts.doorbell.load(), 2u);
  EXPECT_EQ(rig.range->counts.coalesced.load(), 1u);
  EXPECT(!rig.bus.channel().outstanding());
}

TEST(a_write_that_leaves_the_guest_rings_the_same) {
  Rig rig{1};  // the host has a bell for the first alone
  EXPECT(rig.places() == Rig::Offsets({kBar}));
  rig.write(4, 0xdead);
  rig.collect_and_serve();
  const std::vector<std::pair<std::uint32_t, std::uint32_t>> wanted = {{4, 71}};
  EXPECT(rig.seen == wanted);
}

// What rang before its BAR moved was meant for the device, whatever is there now; one of a device
// that is gone is nobody's.
TEST(a_bell_rung_outlives_a_move_and_not_its_device) {
  Rig rig;
  rig.bells.write(kBar + 8);
  EXPECT_EQ(rig.bus.map().move(rig.range->id, 2 * kBar), "");
  rig.collect_and_serve();
  EXPECT_EQ(rig.seen.size(), 1u);
  EXPECT_EQ(rig.seen.front().second, 72u);
  rig.bells.write(2 * kBar);
  EXPECT_EQ(rig.bus.map().remove(rig.range->id), "");
  rig.collect_and_serve();
  EXPECT_EQ(rig.seen.size(), 1u);
}

// The consumer never waits for room in the ring that only it empties. Posted writes between keep
// bells from being coalesced.
TEST(a_full_ring_leaves_bells_rung) {
  Rig rig;
  Channel& channel = rig.bus.channel();
  for (std::uint32_t i = 0; i < wire::kRingEntries; ++i) {
    EXPECT(channel.has_room(channel.shared().own()));
    rig.bells.write(kBar);
    rig.bus.collect();
    rig.write(12, i);
  }
  EXPECT(!channel.has_room(channel.shared().own()));
  rig.bells.write(kBar + 4);
  rig.bus.collect();
  EXPECT_EQ(rig.bells.rung.size(), 1u);
  rig.consumer.serve();
  rig.collect_and_serve();
  EXPECT(rig.bells.rung.empty());
  EXPECT_EQ(rig.seen.back().second, 71u);
}

TEST(only_a_doorbell_has_a_value_of_its_own) {
  RangeSpec spec;
  spec.name = "odd";
  spec.length = 8;
  spec.ways = {{0, 4, ReadWay::kDirect, WriteWay::kPosted}};
  spec.ways[0].rings = 0;
  EXPECT(check_spec(spec).find("`rings`") != std::string::npos);
  spec.ways[0].write = WriteWay::kDoorbell;
  EXPECT_EQ(check_spec(spec), "");
  spec.ways[0].length = 8;
  EXPECT(check_spec(spec).find("`rings`") != std::string::npos);
}

TEST_MAIN()
