// Ports and links among liars: guests whose headers and buffers contradict each other, other ends of
// a stream that send no frames, cards of a switch that say anything. Nothing is read or written beyond
// its bounds (the sanitizers watch), one call ends, and what a guest gets is sound.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/test.h"
#include "net/connect.h"
#include "net/offload.h"
#include "net/port.h"
#include "net/stream_link.h"
#include "net/switch_link.h"

using namespace hv;
using namespace hv::net;

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t kMemory = 4 << 20;
// Where buffers to receive into lie, but for a few at the very end; the rest of memory stays as it is.
constexpr std::uint64_t kRoom = 1 << 20, kRoomEnd = 2 << 20;
constexpr std::uint8_t kUntouched = 0xa5;

// The same again for the same seed.
class Random {
 public:
  explicit Random(unsigned seed) : state_{seed} {}
  unsigned below(unsigned limit) {
    state_ = state_ * 1664525 + 1013904223;
    return (state_ >> 8) % limit;
  }
  bool chance(unsigned of) { return below(of) == 0; }
  std::uint8_t byte() { return static_cast<std::uint8_t>(below(256)); }
  std::uint16_t word() { return static_cast<std::uint16_t>(below(65536)); }

 private:
  unsigned state_;
};

// An IPv4 TCP segment, or nearly one.
Bytes frame_of(Random& random) {
  Bytes frame(54 + random.below(random.chance(8) ? 65000 : 1500));
  frame[0] = 2, frame[6] = 4, frame[12] = 8, frame[14] = 0x45, frame[23] = 6, frame[46] = 0x50;
  for (unsigned n = random.below(5); n > 0; --n)
    frame[random.below(static_cast<unsigned>(frame.size()))] = random.byte();
  if (random.chance(8)) frame.resize(random.below(60));
  return frame;
}

Header header_of(Random& random) {
  Header header;
  header.flags = static_cast<std::uint8_t>(random.chance(8) ? random.byte() : random.below(2));
  header.gso_type = random.chance(2) ? std::uint8_t{0} : random.chance(2) ? kGsoTcp4 : random.byte();
  header.hdr_len = random.word();
  header.gso_size = static_cast<std::uint16_t>(random.chance(2) ? 1448 : random.below(100));
  header.csum_start = random.chance(3) ? random.word() : std::uint16_t{34};
  header.csum_offset = random.chance(3) ? random.word() : std::uint16_t{16};
  header.num_buffers = random.word();
  return header;
}

// As what the stream's other end sends: whole frames, runts, and now and then a length that lies.
Bytes message_of(Random& random) {
  const Bytes frame = frame_of(random);
  auto length = static_cast<std::uint32_t>(frame.size());
  if (random.chance(100)) length = random.chance(2) ? random.below(70000) : random.below(1u << 24) << 8;
  Bytes out{static_cast<std::uint8_t>(length >> 24), static_cast<std::uint8_t>(length >> 16),
            static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length)};
  out.insert(out.end(), frame.begin(), frame.end());
  return out;
}

struct Rig {
  Rig() {
    ::signal(SIGPIPE, SIG_IGN);
    int ours = -1;
    make_pair(ours, peer);
    ::fcntl(peer, F_SETFL, O_NONBLOCK);
    std::string error;
    memory = GuestMemory::create(kMemory, error);
    std::memset(memory->host(Gpa{0}), kUntouched, kMemory);
    port = std::make_unique<Port>(memory, std::make_unique<StreamLink>(ours));
  }
  ~Rig() {
    if (peer >= 0) ::close(peer);
  }
  void say(const Bytes& bytes) { (void)!::write(peer, bytes.data(), bytes.size()); }
  std::uint64_t touched(std::uint64_t from, std::uint64_t to) const {
    const std::uint8_t* const all = memory->host(Gpa{0});
    return (to - from) - static_cast<std::uint64_t>(std::count(all + from, all + to, kUntouched));
  }

  std::shared_ptr<GuestMemory> memory;
  std::unique_ptr<Port> port;
  int peer = -1;
};

// One buffer chain; its bytes where it was taken.
std::uint64_t post(Rig& rig, Random& random) {
  std::vector<Piece> pieces(random.chance(50) ? 1024 : 1 + random.below(4));
  std::uint64_t bytes = 0;
  for (Piece& piece : pieces) {
    piece.length = random.chance(4) ? random.below(32) : random.below(3000);
    piece.at = Gpa{kRoom + random.below(static_cast<unsigned>(kRoomEnd - kRoom - 3000))};
    if (random.chance(60)) piece.at = Gpa{kMemory - random.below(16)};
    if (random.chance(200)) piece.length = ~0ull - random.below(4096);
    bytes += piece.length;
  }
  return rig.port->post(pieces) ? bytes : 0;
}

Agreement agreement_of(Random& random) {
  return {random.chance(2) ? sizeof(Header) : 10, random.chance(2), random.chance(2),
          random.below(32)};
}

TEST(a_hostile_stream_reaches_only_the_buffers_that_were_given) {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    Random random{seed};
    Rig rig;
    std::deque<std::uint64_t> posted;
    for (int step = 0; step < 200; ++step) {
      if (random.chance(10)) rig.port->agree(agreement_of(random));
      if (random.chance(40)) rig.port->clear(), posted.clear();
      for (unsigned n = random.below(6); n > 0; --n)
        if (const std::uint64_t bytes = post(rig, random)) posted.push_back(bytes);
      for (unsigned n = random.below(3); n > 0; --n) rig.say(message_of(random));
      std::array<Received, 8> frames{};
      std::size_t count = 0;
      if (rig.port->receive(frames, count, random.chance(2)) == Stop::kDown) break;
      for (std::size_t i = 0; i < count; ++i) {
        REQUIRE(frames[i].chains >= 1 && frames[i].chains <= posted.size());
        std::uint64_t room = 0;
        for (std::uint32_t n = 0; n < frames[i].chains; ++n, posted.pop_front()) room += posted.front();
        EXPECT(frames[i].bytes <= room);
      }
    }
    EXPECT_EQ(rig.touched(0, kRoom) + rig.touched(kRoomEnd, kMemory - 16), 0u);
  }
}

TEST(buffers_posted_under_a_shorter_header_hold_no_frame) {
  Rig rig;
  rig.port->agree({10, false, true, 0});
  const Piece small{Gpa{kRoom}, 11};
  REQUIRE(rig.port->post({&small, 1}));
  rig.port->agree({12, true, true, 0});
  rig.say({0, 0, 0, 14, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0});
  std::array<Received, 8> frames{};
  std::size_t count = 0;
  EXPECT(rig.port->receive(frames, count, false) == Stop::kStarved);
  EXPECT_EQ(count, 0u);
  EXPECT_EQ(rig.touched(0, kMemory), 0u);
}

TEST(whatever_a_guest_sends_comes_out_as_whole_frames_or_not_at_all) {
  Random random{7};
  Rig rig;
  FramedSocket reader{::dup(rig.peer), kMostFrame};
  std::size_t frames = 0;
  for (int round = 0; round < 3000; ++round) {
    rig.port->agree(agreement_of(random));
    const Header header = header_of(random);
    const Bytes frame = frame_of(random);
    std::memcpy(rig.memory->host(Gpa{64}), &header, sizeof(header));
    std::ranges::copy(frame, rig.memory->host(Gpa{64 + sizeof(header)}));
    std::vector<Piece> pieces;
    for (std::uint64_t at = 0, all = sizeof(header) + frame.size(); at < all;) {
      const std::uint64_t part = std::min<std::uint64_t>(all - at, 1 + random.below(2000));
      pieces.push_back({Gpa{64 + at}, part});
      at += part;
    }
    if (random.chance(20)) pieces.push_back({Gpa{kMemory - 8}, random.below(1u << 20)});
    if (random.chance(20)) pieces.resize(random.below(static_cast<unsigned>(pieces.size()) + 1));
    const Chain chain{pieces};
    Stop stop{};
    rig.port->send({&chain, 1}, stop);
    std::span<const std::uint8_t> one;
    for (; reader.next(one) == FramedSocket::State::kMessage; ++frames)
      EXPECT(one.size() >= kEthernet && one.size() <= kMostFrame);
  }
  const Counters& counters = rig.port->counters();
  EXPECT(frames > 500 && counters.sent > 500 && counters.send_dropped > 500);
}

// Runts, and frames for others, while the peer goes on: the call ends, and says that there is more.
TEST(a_flood_that_is_not_for_the_guest_does_not_hold_it) {
  Rig rig;
  rig.port->agree({12, true, true, 0});
  const Piece room{Gpa{kRoom}, 2048};
  REQUIRE(rig.port->post({&room, 1}));
  const Bytes runts(4 * 1000, 0);
  rig.say(runts);
  std::array<Received, 8> frames{};
  std::size_t count = 0;
  EXPECT(rig.port->receive(frames, count, false) == Stop::kLimit);
  EXPECT_EQ(count, 0u);
  const std::uint64_t first = rig.port->counters().receive_dropped;
  EXPECT(first > 0 && first < 1000);
  while (rig.port->receive(frames, count, false) == Stop::kLimit) EXPECT_EQ(count, 0u);
  EXPECT_EQ(rig.port->counters().receive_dropped, 1000u);
}

// A card whose neighbour is the test.
struct Switch {
  Switch() {
    ::signal(SIGPIPE, SIG_IGN);
    EXPECT(::mkdtemp(folder.data()) != nullptr);
    int error = 0;
    card = SwitchLink::join(folder, Mac{2, 0, 0, 0, 0, 1}, error);
  }
  ~Switch() {
    card.reset();
    ::unlink((folder + "/lock").c_str());
    ::rmdir(folder.c_str());
  }
  int connect() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (folder + "/020000000001").copy(address.sun_path, sizeof(address.sun_path) - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    EXPECT(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    return fd;
  }
  // Frames that a guest would get; all of them sound.
  std::size_t receive(unsigned accepts) {
    std::size_t frames = 0, length = 0;
    const iovec piece{room.data(), room.size()};
    Header header;
    for (Result one{}; (one = card->receive(header, {&piece, 1}, length)) != Result::kBusy;) {
      if (one != Result::kDone) continue;
      ++frames;
      EXPECT(length >= kEthernet && length <= room.size());
      const auto needed = needs(header, std::span{room}.first(std::min(length, room.size())));
      EXPECT(needed && (*needed & ~accepts) == 0);
    }
    return frames;
  }
  std::string folder = "/tmp/xhyved-hostile-XXXXXX";
  std::unique_ptr<SwitchLink> card;
  Bytes room = Bytes(kMostFrame);
};

Bytes switch_message(Random& random) {
  const Header header = header_of(random);
  const Bytes frame = frame_of(random);
  Bytes body{std::uint8_t{1}};
  body.resize(1 + sizeof(header));
  std::memcpy(body.data() + 1, &header, sizeof(header));
  body.insert(body.end(), frame.begin(), frame.end());
  if (random.chance(20)) body = {0, 1, random.byte()};
  if (random.chance(100)) body.resize(random.below(20));
  const std::size_t length = random.chance(100) ? random.below(1u << 20) : body.size();
  Bytes out{0, static_cast<std::uint8_t>(length >> 16), static_cast<std::uint8_t>(length >> 8),
            static_cast<std::uint8_t>(length)};
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

TEST(a_hostile_neighbour_gives_a_guest_only_what_it_takes) {
  Random random{3};
  Switch rig;
  REQUIRE(rig.card != nullptr);
  std::size_t frames = 0;
  for (int life = 0; life < 60; ++life) {
    const unsigned accepts = random.below(32) & kSoftwareOffloads;
    rig.card->accept(accepts);
    const int fd = rig.connect();
    const Bytes hello{0, 0, 0, 3, 0, 1, random.byte()};
    (void)!::write(fd, hello.data(), hello.size());
    for (int step = 0; step < 60; ++step) {
      const Bytes message = switch_message(random);
      (void)!::write(fd, message.data(), message.size());
      frames += rig.receive(accepts);
    }
    ::close(fd);
    frames += rig.receive(accepts);
  }
  EXPECT(frames > 200);
}

TEST(a_guest_cannot_give_its_neighbour_a_header_that_lies) {
  Random random{5};
  Switch rig;
  REQUIRE(rig.card != nullptr);
  FramedSocket neighbour{rig.connect(), 1 + sizeof(Header) + kMostFrame};
  const Bytes all{0, 1, 0xff};
  std::ranges::copy(all, neighbour.put(all.size()).begin());
  neighbour.flush();
  rig.receive(0);
  std::size_t frames = 0;
  for (int round = 0; round < 3000; ++round) {
    Header header = header_of(random);
    header.flags &= kNeedsChecksum;  // Port sees to that
    Bytes frame = frame_of(random);
    frame.resize(std::max(frame.size(), kEthernet));
    const iovec piece{frame.data(), frame.size()};
    rig.card->send(header, {&piece, 1});
    rig.card->flush();
    std::span<const std::uint8_t> one;
    while (neighbour.next(one) == FramedSocket::State::kMessage) {
      if (one[0] != 1) continue;
      ++frames;
      std::memcpy(&header, one.data() + 1, sizeof(header));
      EXPECT(needs(header, one.subspan(1 + sizeof(header))).has_value());
    }
  }
  EXPECT(frames > 500);
}

}  // namespace

TEST_MAIN()
