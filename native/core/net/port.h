// The guest's end of a network card's cable: moves frames between a link and the buffers that the
// driver gave, many at a call, without a copy where the link has none of its own.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "memory/guest_memory.h"
#include "net/capture.h"
#include "net/filter.h"
#include "net/link.h"

namespace hv::net {

struct Piece {
  Gpa at{};
  std::uint64_t length = 0;
};
using Chain = std::span<const Piece>;

// What the driver and the device have agreed on.
struct Agreement {
  std::size_t header = sizeof(Header);  // or 10: the legacy interface without mergeable buffers
  bool mergeable = false;
  bool checksums = false;  // the guest leaves work to us
  unsigned accepts = 0;    // Offload: what it takes of what it receives
};

struct Received {
  std::uint32_t chains;
  std::uint32_t bytes;  // with the header
};

enum class Stop : std::uint8_t {
  kLimit,    // there may be more
  kEmpty,    // wait until the descriptor is readable
  kStarved,  // a frame waits, or may, for buffers
  kDown,
};

struct Counters {
  std::uint64_t sent = 0, sent_bytes = 0, send_dropped = 0;
  std::uint64_t received = 0, received_bytes = 0, receive_dropped = 0, filtered = 0;
};

class Port {
 public:
  Port(std::shared_ptr<GuestMemory> memory, std::unique_ptr<Link> link);

  Link& link() { return *link_; }
  Counters& counters() { return counters_; }
  Filter& filter() { return filter_; }
  void agree(const Agreement& agreement);

  // A buffer chain to receive into. False: not guest memory, or too many pieces.
  bool post(Chain chain);
  // Posted chains are forgotten, and a frame that waited for them.
  void clear();
  // Frames into posted chains, the oldest first, until `into` is full. `whole_ring`: the driver has
  // no more buffers to give, so a frame that does not fit never will.
  Stop receive(std::span<Received> into, std::size_t& count, bool whole_ring);

  // How many of the chains, each a header and a frame, have been dealt with; fewer than all: the
  // descriptor will be writable. Ends with flush().
  std::size_t send(std::span<const Chain> chains, Stop& stop);
  // True: something gathered earlier waits until the descriptor is writable.
  bool flush() { return link_->flush(); }

  void capture(std::unique_ptr<Capture> capture) { capture_ = std::move(capture); }
  Capture* capturing() { return capture_.get(); }
  // To go on at another port; all of it is in the file so far.
  std::unique_ptr<Capture> take_capture() {
    if (capture_) capture_->flush();
    return std::move(capture_);
  }

 private:
  struct Posted {
    std::vector<iovec> pieces;
    std::vector<Piece> guest;
    std::size_t bytes = 0;
  };

  Result send_one(Chain chain);
  // Room of the first chains, without the header of the first; how many chains.
  std::size_t make_room();
  Result next_frame(Header& header, std::size_t& length, bool& fits);
  void hold(const Header& header, std::size_t length, std::size_t room);
  std::uint32_t deliver(Header& header, std::size_t bytes);

  const std::shared_ptr<GuestMemory> memory_;
  const std::unique_ptr<Link> link_;
  Agreement agreement_;
  Filter filter_;
  Counters counters_;
  std::unique_ptr<Capture> capture_;
  std::deque<Posted> posted_;
  std::vector<iovec> room_, frame_;
  std::vector<std::uint8_t> overflow_;
  // A frame that did not fit into what was posted.
  std::optional<Header> held_header_;
  std::vector<std::uint8_t> held_;
};

}  // namespace hv::net
