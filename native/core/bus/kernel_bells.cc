#include "bus/kernel_bells.h"

namespace hv {

// All go before any comes: one may come where another was.
void Belfry::follow(Range& range) {
  if (bells_ == nullptr || range.spec.native != nullptr) return;
  if (!range.has_bells) make_bells(range);
  each(range, [this](std::uint32_t bell, Doorbell& doorbell) { take_down(bell, doorbell); });
  each(range, [this](std::uint32_t bell, Doorbell& doorbell) { hang(bell, doorbell); });
  if (!range.removed) return;
  each(range, [this](std::uint32_t bell, Doorbell&) { bells_->drop(bell); });
  std::erase_if(doorbells_, [&range](const auto& one) { return one.second.range == &range; });
}

void Belfry::make_bells(Range& range) {
  range.has_bells = true;
  for (const RegisterWays& ways : range.spec.ways) {
    if (!ways.rings) continue;
    const auto bell = bells_->make();
    if (bell) doorbells_.emplace(*bell, Doorbell{&range, &ways, std::nullopt});
  }
}

std::optional<std::uint64_t> Belfry::Doorbell::wanted() const {
  if (!range->enabled || range->removed) return std::nullopt;
  return range->spec.base + ways->at;
}

void Belfry::take_down(std::uint32_t bell, Doorbell& doorbell) {
  if (!doorbell.at || doorbell.at == doorbell.wanted()) return;
  bells_->take_down(bell, doorbell.range->spec.space, *doorbell.at);
  doorbell.at.reset();
}

void Belfry::hang(std::uint32_t bell, Doorbell& doorbell) {
  const auto at = doorbell.wanted();
  if (!at || doorbell.at) return;
  if (bells_->hang(bell, doorbell.range->spec.space, *at)) doorbell.at = at;
}

void Belfry::collect(const KernelBells::Room& room, const Ring& ring) {
  if (bells_ == nullptr) return;
  bells_->collect(room, [&](std::uint32_t bell, std::uint64_t times) {
    const auto found = doorbells_.find(bell);
    if (found != doorbells_.end()) ring(*found->second.range, *found->second.ways, times);
  });
}

}  // namespace hv
