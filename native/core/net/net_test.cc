// Ports, links and what they do to frames, over real sockets: what a guest finds in its buffers, and
// what comes out at the other end.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/test.h"
#include "net/connect.h"
#include "net/offload.h"
#include "net/port.h"
#include "net/stream_link.h"
#include "net/switch_link.h"
#include "net/tap_link.h"
#include "net/vmnet_link.h"

using namespace hv;
using namespace hv::net;

namespace {

constexpr std::uint64_t kMemory = 4 << 20;
using Bytes = std::vector<std::uint8_t>;

Bytes frame_of(std::size_t length, std::uint8_t to = 2, std::uint8_t from = 4) {
  Bytes frame(length);
  for (std::size_t i = 0; i < length; ++i) frame[i] = static_cast<std::uint8_t>(i * 7);
  std::fill_n(frame.begin(), 6, to);
  std::fill_n(frame.begin() + 6, 6, from);
  frame[12] = 0x08;
  frame[13] = 0x00;
  return frame;
}

std::shared_ptr<GuestMemory> memory_of_test() {
  std::string error;
  return GuestMemory::create(kMemory, error);
}

// A port over a stream, whose other end the test holds.
struct Rig {
  Rig() {
    ::signal(SIGPIPE, SIG_IGN);
    int ours = -1;
    make_pair(ours, peer);
    ::fcntl(peer, F_SETFL, O_NONBLOCK);
    port = std::make_unique<Port>(memory, std::make_unique<StreamLink>(ours));
    port->agree({12, true, true, 0});
  }
  ~Rig() {
    if (peer >= 0) ::close(peer);
  }

  void arrive(const Bytes& frame) {
    const auto length = static_cast<std::uint32_t>(frame.size());
    Bytes all{static_cast<std::uint8_t>(length >> 24), static_cast<std::uint8_t>(length >> 16),
              static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length)};
    all.insert(all.end(), frame.begin(), frame.end());
    EXPECT_EQ(::write(peer, all.data(), all.size()), static_cast<ssize_t>(all.size()));
  }
  // All frames that have come out.
  std::vector<Bytes> sent() {
    std::vector<Bytes> out;
    for (FramedSocket::State state = FramedSocket::State::kMessage;;) {
      std::span<const std::uint8_t> one;
      state = reader().next(one);
      if (state != FramedSocket::State::kMessage) return out;
      out.emplace_back(one.begin(), one.end());
    }
  }
  FramedSocket& reader() {
    if (!reader_) reader_ = std::make_unique<FramedSocket>(::dup(peer), kMostFrame);
    return *reader_;
  }
  void post(std::uint64_t at, std::uint64_t length) {
    const Piece piece{Gpa{at}, length};
    EXPECT(port->post({&piece, 1}));
  }
  std::size_t send(const Header& header, const Bytes& frame, std::uint64_t at = 0x100000) {
    std::memcpy(memory->host(Gpa{at}), &header, sizeof(header));
    std::copy(frame.begin(), frame.end(), memory->host(Gpa{at + sizeof(header)}));
    // In two pieces, the first with a part of the frame.
    const std::array<Piece, 2> pieces{Piece{Gpa{at}, 20}, Piece{Gpa{at + 20}, frame.size() - 8}};
    const Chain chain{pieces};
    return port->send({&chain, 1}, stop);
  }

  std::shared_ptr<GuestMemory> memory = memory_of_test();
  std::unique_ptr<Port> port;
  int peer = -1;
  Stop stop{};
  std::array<Received, 8> received{};
  std::size_t count = 0;

 private:
  std::unique_ptr<FramedSocket> reader_;
};

std::uint16_t word(std::span<const std::uint8_t> from, std::size_t at) {
  return static_cast<std::uint16_t>(from[at] << 8 | from[at + 1]);
}

// An IPv4 TCP segment with `payload` bytes, its checksums left to do.
Bytes tcp_frame(std::size_t payload) {
  Bytes frame = frame_of(54 + payload);
  std::fill(frame.begin() + 14, frame.begin() + 54, std::uint8_t{0});
  frame[14] = 0x45;
  frame[16] = static_cast<std::uint8_t>((40 + payload) >> 8);
  frame[17] = static_cast<std::uint8_t>(40 + payload);
  frame[22] = 64;
  frame[23] = 6;
  frame[26] = 10, frame[29] = 1, frame[30] = 10, frame[33] = 2;
  frame[37] = 80;
  frame[41] = 100;   // sequence
  frame[46] = 0x50;
  frame[47] = 0x19;  // FIN, PSH, ACK
  return frame;
}

// RFC 9293: pseudo-header and segment add up to all ones.
bool tcp_sums(std::span<const std::uint8_t> frame) {
  const auto length = static_cast<std::uint32_t>(frame.size() - 34);
  const std::uint16_t pseudo = add_checksum(frame.subspan(26, 8), length + 6);
  return add_checksum(frame.subspan(34), pseudo) == 0xffff &&
         add_checksum(frame.subspan(14, 20), 0) == 0xffff;
}

TEST(receives_into_as_many_buffers_as_it_takes) {
  Rig rig;
  for (std::uint64_t i = 0; i < 4; ++i) rig.post(0x1000 * i, 600);
  rig.arrive(frame_of(1000));
  rig.arrive(frame_of(60));
  EXPECT(rig.port->receive(rig.received, rig.count, false) == Stop::kEmpty);
  REQUIRE(rig.count == 2);
  EXPECT_EQ(rig.received[0].chains, 2u);
  EXPECT_EQ(rig.received[0].bytes, 1012u);
  EXPECT_EQ(rig.received[1].chains, 1u);
  const std::uint8_t* const first = rig.memory->host(Gpa{0});
  EXPECT_EQ(+first[10], 2);  // num_buffers
  const Bytes wanted = frame_of(1000);
  EXPECT(std::equal(wanted.begin(), wanted.begin() + 588, first + 12));
  EXPECT(std::equal(wanted.begin() + 588, wanted.end(), rig.memory->host(Gpa{0x1000})));
}

TEST(keeps_a_frame_until_there_is_room) {
  Rig rig;
  rig.post(0, 512);
  rig.arrive(frame_of(900));
  EXPECT(rig.port->receive(rig.received, rig.count, false) == Stop::kStarved);
  EXPECT_EQ(rig.count, 0u);
  rig.post(0x1000, 512);
  rig.port->receive(rig.received, rig.count, false);
  REQUIRE(rig.count == 1);
  const Bytes wanted = frame_of(900);
  EXPECT(std::equal(wanted.begin(), wanted.begin() + 500, rig.memory->host(Gpa{12})));
  EXPECT(std::equal(wanted.begin() + 500, wanted.end(), rig.memory->host(Gpa{0x1000})));
}

TEST(drops_what_the_whole_ring_cannot_hold) {
  Rig rig;
  rig.post(0, 512);
  rig.arrive(frame_of(900));
  rig.arrive(frame_of(60));
  rig.port->receive(rig.received, rig.count, true);
  EXPECT_EQ(rig.count, 1u);
  EXPECT_EQ(rig.port->counters().receive_dropped, 1u);
}

TEST(takes_only_what_is_memory_and_holds_a_header) {
  Rig rig;
  const Piece outside{Gpa{kMemory - 8}, 16}, tiny{Gpa{0}, 11};
  EXPECT(!rig.port->post({&outside, 1}));
  EXPECT(!rig.port->post({&tiny, 1}));
  const Chain chain{&outside, 1};
  EXPECT_EQ(rig.port->send({&chain, 1}, rig.stop), 1u);
  EXPECT_EQ(rig.port->counters().send_dropped, 1u);
}

TEST(filters) {
  Rig rig;
  for (std::uint64_t i = 0; i < 4; ++i) rig.post(0x1000 * i, 2048);
  Filter filter;
  filter.mode = 0;
  filter.mac.fill(2);
  rig.port->filter() = filter;
  rig.arrive(frame_of(60, 4));
  rig.arrive(frame_of(60, 2));
  rig.arrive(frame_of(60, 0xff));
  rig.port->receive(rig.received, rig.count, false);
  EXPECT_EQ(rig.count, 2u);
  EXPECT_EQ(rig.port->counters().filtered, 1u);
}

TEST(sends_frames_whole_and_finishes_checksums) {
  Rig rig;
  EXPECT_EQ(rig.send({}, frame_of(100)), 1u);
  Bytes segment = tcp_frame(333);
  const auto pseudo = add_checksum(std::span{segment}.subspan(26, 8), 353 + 6);
  segment[50] = static_cast<std::uint8_t>(pseudo >> 8);
  segment[51] = static_cast<std::uint8_t>(pseudo);
  segment[24] = 0x62;  // the IP header's own checksum is the guest's
  Header header;
  header.flags = kNeedsChecksum;
  header.csum_start = 34;
  header.csum_offset = 16;
  rig.send(header, segment);
  const auto out = rig.sent();
  REQUIRE(out.size() == 2);
  EXPECT(out[0] == frame_of(100));
  const auto sum = add_checksum(std::span{out[1]}.subspan(34), pseudo);
  EXPECT_EQ(sum, 0xffff);
}

TEST(cuts_large_segments) {
  Rig rig;
  Header header;
  header.flags = kNeedsChecksum;
  header.gso_type = kGsoTcp4;
  header.gso_size = 1000;
  header.csum_start = 34;
  header.csum_offset = 16;
  const Bytes whole = tcp_frame(2500);
  rig.send(header, whole);
  const auto out = rig.sent();
  REQUIRE(out.size() == 3);
  Bytes joined;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT(tcp_sums(out[i]));
    EXPECT_EQ(word(out[i], 40), 100 + 1000 * i);               // sequence, its low half
    EXPECT_EQ(word(out[i], 18), i);                            // identification
    EXPECT_EQ(+out[i][47], i == 2 ? 0x19 : 0x10);              // FIN and PSH on the last
    EXPECT_EQ(word(out[i], 16), out[i].size() - 14);           // total length
    joined.insert(joined.end(), out[i].begin() + 54, out[i].end());
  }
  EXPECT(std::equal(joined.begin(), joined.end(), whole.begin() + 54, whole.end()));
}

TEST(refuses_headers_that_contradict_their_frames) {
  unsigned state = 12345;
  const auto random = [&state](unsigned below) {
    state = state * 1664525 + 1013904223;
    return (state >> 8) % below;
  };
  for (int round = 0; round < 20000; ++round) {
    Bytes frame = tcp_frame(random(300));
    for (unsigned n = random(6); n > 0; --n)
      frame[random(static_cast<unsigned>(frame.size()))] = static_cast<std::uint8_t>(random(256));
    frame.resize(14 + random(static_cast<unsigned>(frame.size() - 13)));
    Header header;
    header.flags = static_cast<std::uint8_t>(random(2));
    header.gso_type = static_cast<std::uint8_t>(random(2) ? random(5) : random(256));
    header.gso_size = static_cast<std::uint16_t>(random(2) ? random(200) : random(65536));
    header.csum_start = static_cast<std::uint16_t>(random(2) ? 34 : random(65536));
    header.csum_offset = static_cast<std::uint16_t>(random(2) ? 16 : random(65536));
    std::size_t bytes = 0, most = frame.size() * 300;
    finish(header, frame, [&](std::span<const std::uint8_t> one) { bytes += one.size(); });
    EXPECT(bytes <= most);
  }
}

TEST(a_stream_that_is_no_stream_of_frames_goes_down) {
  Rig rig;
  rig.post(0, 2048);
  EXPECT_EQ(::write(rig.peer, "\xff\xff\xff\xff", 4), 4);
  EXPECT(rig.port->receive(rig.received, rig.count, false) == Stop::kDown);
  EXPECT(!rig.port->link().fault().empty());
  Rig closed;
  closed.post(0, 2048);
  ::close(std::exchange(closed.peer, -1));
  EXPECT(closed.port->receive(closed.received, closed.count, false) == Stop::kDown);
}

TEST(a_full_stream_keeps_frames_with_the_guest) {
  Rig rig;
  std::size_t sent = 0;
  while (sent < 100000 && rig.send({}, frame_of(60000)) == 1) ++sent;
  EXPECT(sent > 5 && sent < 1000);
  EXPECT(rig.stop == Stop::kLimit);
  const std::size_t before = rig.sent().size();
  EXPECT(before > 0);
  rig.port->flush();
  EXPECT_EQ(rig.send({}, frame_of(60000)), 1u);
}

struct Card {
  Card(const std::string& folder, std::uint8_t last) {
    const Mac mac{2, 0, 0, 0, 0, last};
    link = SwitchLink::join(folder, mac, error);
  }
  void send(std::uint8_t to, std::uint8_t from, const Header& with = {}, Bytes frame = {}) {
    if (frame.empty()) frame = frame_of(60);
    const Mac target{2, 0, 0, 0, 0, to}, source{2, 0, 0, 0, 0, from};
    std::ranges::copy(target, frame.begin());
    if (to == 0xff) std::fill_n(frame.begin(), 6, std::uint8_t{0xff});
    std::ranges::copy(source, frame.begin() + 6);
    const iovec piece{frame.data(), frame.size()};
    link->send(with, {&piece, 1});
    link->flush();
  }
  std::vector<std::size_t> receive() {
    std::vector<std::size_t> lengths;
    static Bytes room(70000);
    const iovec piece{room.data(), room.size()};
    std::size_t length = 0;
    for (Result one{}; (one = link->receive(header, {&piece, 1}, length)) != Result::kBusy;)
      if (one == Result::kDone) lengths.push_back(length);
    return lengths;
  }
  int error = 0;
  Header header;
  std::unique_ptr<SwitchLink> link;
};

struct Folder {
  Folder() { EXPECT(::mkdtemp(path.data()) != nullptr); }
  ~Folder() {
    ::unlink((path + "/lock").c_str());
    ::rmdir(path.c_str());
  }
  std::string path = "/tmp/xhyved-switch-XXXXXX";
};

TEST(a_switch_floods_then_learns_and_survives_deaths) {
  ::signal(SIGPIPE, SIG_IGN);
  Folder folder;
  Card a{folder.path, 1}, b{folder.path, 2};
  auto c = std::make_unique<Card>(folder.path, 3);
  REQUIRE(a.link && b.link && c->link);
  a.receive(), b.receive(), c->receive();
  a.receive(), b.receive(), c->receive();
  a.send(0xff, 1);
  EXPECT_EQ(b.receive().size(), 1u);
  EXPECT_EQ(c->receive().size(), 1u);
  b.send(1, 2);
  EXPECT_EQ(c->receive().size(), 0u);
  EXPECT_EQ(a.receive().size(), 1u);
  a.send(2, 1);
  EXPECT_EQ(b.receive().size(), 1u);
  EXPECT_EQ(c->receive().size(), 0u);
  const Card taken{folder.path, 2};
  EXPECT_EQ(taken.error, EADDRINUSE);
  c.reset();
  a.receive();
  a.send(0xff, 1);
  EXPECT_EQ(b.receive().size(), 1u);
  Card again{folder.path, 3};
  REQUIRE(again.link != nullptr);
  a.receive(), b.receive(), again.receive();
  a.send(0xff, 1);
  EXPECT_EQ(again.receive().size(), 1u);
}

TEST(a_switch_leaves_work_only_to_those_who_take_it) {
  Folder folder;
  Card a{folder.path, 1}, b{folder.path, 2};
  REQUIRE(a.link && b.link);
  b.link->accept(0);
  a.receive(), b.receive(), a.receive();
  Header header;
  header.flags = kNeedsChecksum;
  header.gso_type = kGsoTcp4;
  header.gso_size = 1000;
  header.csum_start = 34;
  header.csum_offset = 16;
  a.send(2, 1, header, tcp_frame(2500));
  EXPECT_EQ(b.receive().size(), 3u);
  b.link->accept(kSoftwareOffloads);
  a.receive();
  a.send(2, 1, header, tcp_frame(2500));
  const auto whole = b.receive();
  EXPECT_EQ(whole.size(), 1u);
  EXPECT_EQ(b.header.gso_size, 1000);
}

// vmnet as far as its calls go: packets wait, few are given at once, and it can end.
struct FakeVmnet final : VmnetInterface {
  std::size_t most_bytes() const override { return 1518; }
  std::size_t most_packets() const override { return 4; }
  bool read(std::vector<VmnetPacket>& packets, std::size_t& count) override {
    ++*calls;
    for (count = 0; count < packets.size() && !waiting->empty(); ++count) {
      const Bytes& one = waiting->front();
      packets[count].size = scatter(one, packets[count].pieces);
      waiting->pop_front();
    }
    return *alive;
  }
  bool write(const std::vector<VmnetPacket>& packets, std::size_t& count) override {
    ++*calls;
    for (const VmnetPacket& one : packets) {
      Bytes& out = sent->emplace_back(one.size);
      gather(one.pieces, 0, out);
    }
    count = packets.size();
    return *alive;
  }
  std::shared_ptr<std::deque<Bytes>> waiting = std::make_shared<std::deque<Bytes>>();
  std::shared_ptr<std::vector<Bytes>> sent = std::make_shared<std::vector<Bytes>>();
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

TEST(vmnet_moves_many_packets_a_call_and_cuts_what_is_too_large) {
  auto fake = std::make_unique<FakeVmnet>();
  const auto waiting = fake->waiting;
  const auto sent = fake->sent;
  const auto calls = fake->calls;
  const auto alive = fake->alive;
  int wake[2];
  REQUIRE(make_pair(wake[0], wake[1]) == 0);
  VmnetLink link{std::move(fake), wake[0], wake[1]};
  for (std::size_t i = 0; i < 6; ++i) waiting->push_back(frame_of(100 + i));
  Bytes room(2000);
  const iovec piece{room.data(), room.size()};
  Header header;
  std::size_t length = 0;
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT(link.receive(header, {&piece, 1}, length) == Result::kDone);
    EXPECT_EQ(length, 100 + i);
  }
  EXPECT(link.receive(header, {&piece, 1}, length) == Result::kBusy);
  EXPECT_EQ(*calls, 3);
  header.flags = kNeedsChecksum;
  header.gso_type = kGsoTcp4;
  header.gso_size = 1000;
  header.csum_start = 34;
  header.csum_offset = 16;
  Bytes large = tcp_frame(2500);
  const iovec whole{large.data(), large.size()};
  EXPECT(link.send(header, {&whole, 1}) == Result::kDone);
  link.flush();
  REQUIRE(sent->size() == 3);
  for (const Bytes& one : *sent) EXPECT(tcp_sums(one));
  EXPECT_EQ(*calls, 4);
  *alive = false;
  EXPECT(link.receive(header, {&piece, 1}, length) == Result::kDown);
}

}  // namespace

TEST_MAIN()
