#include "net/port.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace hv::net {
namespace {

constexpr std::size_t kHeadBytes = 18;  // addresses, one tag, a type
// What one call looks at, however little of it is for this guest: others have their turn.
constexpr std::size_t kMostLooked = 256;

void skip(std::vector<iovec>& pieces, std::size_t bytes) {
  std::size_t whole = 0;
  while (whole < pieces.size() && bytes >= pieces[whole].iov_len) bytes -= pieces[whole++].iov_len;
  pieces.erase(pieces.begin(), pieces.begin() + static_cast<std::ptrdiff_t>(whole));
  if (bytes == 0 || pieces.empty()) return;
  pieces[0].iov_base = static_cast<std::uint8_t*>(pieces[0].iov_base) + bytes;
  pieces[0].iov_len -= bytes;
}

}  // namespace

Port::Port(std::shared_ptr<GuestMemory> memory, std::unique_ptr<Link> link)
    : memory_{std::move(memory)}, link_{std::move(link)}, overflow_(kMostFrame) {}

void Port::agree(const Agreement& agreement) {
  agreement_ = agreement;
  link_->accept(agreement.accepts);
}

// --- to the guest -------------------------------------------------------------------------------

bool Port::post(Chain chain) {
  if (chain.size() > kMostPieces) return false;
  Posted posted;
  for (const Piece& piece : chain) {
    std::uint8_t* const at = memory_->host(piece.at, piece.length);
    if (at == nullptr) return false;
    posted.pieces.push_back({at, static_cast<std::size_t>(piece.length)});
    posted.bytes += piece.length;
  }
  if (posted.bytes < agreement_.header) return false;
  posted.guest.assign(chain.begin(), chain.end());
  posted_.push_back(std::move(posted));
  return true;
}

void Port::clear() {
  posted_.clear();
  held_header_.reset();
}

std::size_t Port::make_room() {
  room_.clear();
  std::size_t chains = 0, bytes = 0;
  for (const Posted& one : posted_) {
    const bool enough = agreement_.mergeable ? bytes >= agreement_.header + kMostFrame : chains != 0;
    if (enough || room_.size() + one.pieces.size() > kMostPieces) break;
    room_.insert(room_.end(), one.pieces.begin(), one.pieces.end());
    bytes += one.bytes;
    ++chains;
  }
  skip(room_, agreement_.header);
  // Fewer where they were posted under another agreement: then there is no room for anything.
  return bytes - std::min(bytes, agreement_.header);
}

// A frame that begins in the posted buffers and ends beyond them is kept until there are more.
void Port::hold(const Header& header, std::size_t length, std::size_t room) {
  held_.resize(length);
  gather(room_, 0, std::span{held_}.first(room));
  std::copy_n(overflow_.begin(), length - room, held_.begin() + static_cast<std::ptrdiff_t>(room));
  held_header_ = header;
}

Result Port::next_frame(Header& header, std::size_t& length, bool& fits) {
  const std::size_t room = make_room();
  if (held_header_) {
    header = *held_header_;
    length = held_.size();
    fits = length <= room;
    if (fits) {
      scatter(held_, room_);
      held_header_.reset();
    }
    return Result::kDone;
  }
  room_.push_back({overflow_.data(), overflow_.size()});
  const Result result = link_->receive(header, room_, length);
  room_.pop_back();
  if (result != Result::kDone) return result;
  length = std::min(length, room + overflow_.size());
  fits = length <= room;
  if (!fits) hold(header, length, room);
  return Result::kDone;
}

std::uint32_t Port::deliver(Header& header, std::size_t bytes) {
  std::size_t left = bytes;
  std::uint32_t chains = 0;
  for (; left > 0 || chains == 0; ++chains) left -= std::min(left, posted_[chains].bytes);
  header.num_buffers = static_cast<std::uint16_t>(chains);
  std::array<std::uint8_t, sizeof(Header)> raw{};
  std::memcpy(raw.data(), &header, sizeof(header));
  scatter(std::span{raw}.first(agreement_.header), posted_[0].pieces);
  left = bytes;
  for (std::uint32_t i = 0; i < chains; ++i) {
    for (const Piece& piece : posted_.front().guest) {
      if (left == 0) break;
      const std::uint64_t part = std::min<std::uint64_t>(left, piece.length);
      memory_->written(piece.at, part);
      left -= part;
    }
    posted_.pop_front();
  }
  return chains;
}

Stop Port::receive(std::span<Received> into, std::size_t& count, bool whole_ring) {
  count = 0;
  for (std::size_t looked = 0; looked < kMostLooked && count < into.size(); ++looked) {
    if (posted_.empty()) return Stop::kStarved;
    Header header;
    std::size_t length = 0;
    bool fits = false;
    const Result result = next_frame(header, length, fits);
    if (result == Result::kBusy) return Stop::kEmpty;
    if (result == Result::kDown) return Stop::kDown;
    if (result == Result::kDropped) ++counters_.receive_dropped;
    if (result != Result::kDone) continue;
    if (!fits) {
      if (agreement_.mergeable && !(whole_ring && count == 0)) return Stop::kStarved;
      held_header_.reset();
      ++counters_.receive_dropped;
      continue;
    }
    std::array<std::uint8_t, kHeadBytes> head{};
    if (!filter_.passes(std::span{head}.first(gather(room_, 0, std::span{head}.first(std::min(length, head.size())))))) {
      ++counters_.filtered;
      continue;
    }
    if (capture_) capture_->frame(Capture::Way::kIn, room_, length);
    ++counters_.received;
    counters_.received_bytes += length;
    const std::size_t bytes = agreement_.header + length;
    into[count++] = {deliver(header, bytes), static_cast<std::uint32_t>(bytes)};
  }
  return Stop::kLimit;
}

// --- from the guest -----------------------------------------------------------------------------

Result Port::send_one(Chain chain) {
  frame_.clear();
  std::uint64_t bytes = 0;
  for (const Piece& piece : chain) {
    std::uint8_t* const at = memory_->host(piece.at, piece.length);
    if (at == nullptr) return Result::kDropped;
    frame_.push_back({at, static_cast<std::size_t>(piece.length)});
    bytes += piece.length;
  }
  const std::size_t before = agreement_.header;
  if (bytes < before + kEthernet || bytes > before + kMostFrame) return Result::kDropped;
  // A copy: the guest may change its own meanwhile.
  std::array<std::uint8_t, sizeof(Header)> raw{};
  gather(frame_, 0, std::span{raw}.first(before));
  skip(frame_, before);
  if (frame_.size() > kMostPieces) return Result::kDropped;
  Header header;
  if (agreement_.checksums) {
    std::memcpy(&header, raw.data(), raw.size());
    header.flags &= kNeedsChecksum;
    header.num_buffers = 0;
  }
  const Result result = link_->send(header, frame_);
  if (result != Result::kDone) return result;
  const std::size_t length = bytes - before;
  if (capture_) capture_->frame(Capture::Way::kOut, frame_, length);
  ++counters_.sent;
  counters_.sent_bytes += length;
  return Result::kDone;
}

std::size_t Port::send(std::span<const Chain> chains, Stop& stop) {
  std::size_t done = 0;
  stop = Stop::kEmpty;
  for (; done < chains.size(); ++done) {
    const Result result = send_one(chains[done]);
    if (result == Result::kBusy) {
      stop = Stop::kLimit;
      break;
    }
    if (result == Result::kDone) continue;
    ++counters_.send_dropped;
    if (result == Result::kDown) stop = Stop::kDown;
  }
  if (link_->flush()) stop = stop == Stop::kDown ? stop : Stop::kLimit;
  return done;
}

}  // namespace hv::net
