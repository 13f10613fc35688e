#include "net/vmnet_link.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "net/offload.h"

namespace hv::net {

VmnetLink::VmnetLink(std::unique_ptr<VmnetInterface> vmnet, int wake, int wake_end)
    : vmnet_{std::move(vmnet)}, wake_{wake}, wake_end_{wake_end} {
  for (std::size_t i = 0; i < vmnet_->most_packets(); ++i)
    in_bytes_.emplace_back(vmnet_->most_bytes());
}

VmnetLink::~VmnetLink() {
  vmnet_.reset();  // its callback writes to the pipe
  ::close(wake_);
  ::close(wake_end_);
}

void VmnetLink::gather_packet(std::span<const std::uint8_t> frame) {
  if (frame.size() > vmnet_->most_bytes()) return;  // larger than any packet of this interface
  out_bytes_.emplace_back(frame.begin(), frame.end());
  std::vector<std::uint8_t>& kept = out_bytes_.back();
  out_.push_back({{{kept.data(), kept.size()}}, kept.size()});
  if (out_.size() == vmnet_->most_packets()) flush();
}

Result VmnetLink::send(const Header& header, std::span<const iovec> frame) {
  if (!fault().empty()) return Result::kDown;
  whole_.resize(total(frame));
  gather(frame, 0, whole_);
  const bool good =
      finish(header, whole_, [this](std::span<const std::uint8_t> one) { gather_packet(one); });
  return good ? Result::kDone : Result::kDropped;
}

bool VmnetLink::flush() {
  std::size_t count = 0;
  if (!out_.empty() && !vmnet_->write(out_, count)) down("vmnet takes no packets any more");
  out_.clear();
  out_bytes_.clear();
  return false;
}

bool VmnetLink::refill() {
  // Before reading: what arrives afterwards wakes again.
  std::array<std::uint8_t, 256> wakes;
  while (::read(wake_, wakes.data(), wakes.size()) == static_cast<ssize_t>(wakes.size())) {
  }
  in_.clear();
  for (std::vector<std::uint8_t>& room : in_bytes_)
    in_.push_back({{{room.data(), room.size()}}, room.size()});
  next_ = filled_ = 0;
  return vmnet_->read(in_, filled_);
}

Result VmnetLink::receive(Header& header, std::span<const iovec> room, std::size_t& length) {
  header = {};
  for (;;) {
    if (next_ == filled_ && !refill()) return down("vmnet gives no packets any more");
    if (filled_ == 0) return Result::kBusy;
    const std::size_t at = next_++;
    const std::size_t size = std::min(in_[at].size, in_bytes_[at].size());
    if (size < kEthernet) continue;
    length = size;
    scatter(std::span{in_bytes_[at]}.first(size), room);
    return Result::kDone;
  }
}

}  // namespace hv::net
