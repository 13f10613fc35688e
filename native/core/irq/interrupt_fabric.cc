#include "irq/interrupt_fabric.h"

namespace hv {

namespace {

// ISA IRQ 0 is wired to IO-APIC pin 2, since pin 0 takes the 8259 pair's INT.
constexpr unsigned isa_pin(unsigned irq) { return irq == 0 ? 2 : irq; }
constexpr unsigned kPicPin = 0;
constexpr unsigned kPitIrq = 0, kRtcIrq = 8, kCascadeIrq = 2;

}  // namespace

InterruptFabric::InterruptFabric(TimerService& timers, std::span<VcpuSignals* const> signals)
    : ioapic_{*this} {
  ApicBus& bus = *this;
  for (VcpuSignals* const of_vcpu : signals) {
    const auto index = static_cast<VcpuIndex>(lapics_.size());
    lapics_.push_back(std::make_unique<Lapic>(bus, timers, *of_vcpu, index));
  }
}

InterruptFabric::~InterruptFabric() = default;

void InterruptFabric::reset() {
  {
    std::scoped_lock hold(wires_mutex_);
    legacy_.store(false, std::memory_order_release);
    pit_ = rtc_ = false;
    for (Sources& sources : wires_) sources.reset();
    for (unsigned irq = 0; irq < kPicWires; ++irq) pic_.set_input(irq, false);
    for (unsigned pin = 0; pin < kIoApicPins; ++pin) ioapic_.set_pin(pin, false);
  }
  pic_.reset();
  ioapic_.reset();
  for (auto& lapic : lapics_) lapic->reset();
}

WiresState InterruptFabric::state() const {
  std::scoped_lock hold(wires_mutex_);
  WiresState out;
  for (unsigned wire = 0; wire < kWires; ++wire)
    for (unsigned source = 0; source < kIrqSources; ++source)
      if (wires_[wire][source]) out.asserted.push_back(wire << 16 | source);
  out.legacy_replacement = legacy_.load(std::memory_order_relaxed);
  out.pit = pit_;
  out.rtc = rtc_;
  out.turn = turn_.load(std::memory_order_relaxed);
  return out;
}

// The controllers remember their inputs themselves, so nothing is driven here.
void InterruptFabric::set_state(const WiresState& state) {
  {
    std::scoped_lock hold(wires_mutex_);
    for (Sources& sources : wires_) sources.reset();
    for (const std::uint32_t item : state.asserted)
      if (item >> 16 < kWires && (item & 0xffff) < kIrqSources)
        wires_[item >> 16].set(item & 0xffff);
    legacy_.store(state.legacy_replacement, std::memory_order_release);
    pit_ = state.pit;
    rtc_ = state.rtc;
    turn_.store(state.turn, std::memory_order_relaxed);
  }
  reach_changed();
}

void InterruptFabric::drive(unsigned wire, IrqSource source, bool level) {
  Sources& sources = wires_[wire];
  if (sources[source] == level) return;
  const bool before = sources.any();
  sources.set(source, level);
  const bool after = sources.any();
  if (before == after) return;
  if (wire < kPicWires)
    pic_.set_input(wire, after);
  else
    ioapic_.set_pin(wire - kPicWires, after);
}

void InterruptFabric::drive_isa(unsigned irq, IrqSource source, bool level) {
  drive(irq, source, level);
  drive(kPicWires + isa_pin(irq), source, level);
}

void InterruptFabric::set_isa(unsigned irq, IrqSource source, bool level) {
  if (irq >= kPicWires || irq == kCascadeIrq || source >= kIrqSources) return;
  std::scoped_lock hold(wires_mutex_);
  drive_isa(irq, source, level);
}

void InterruptFabric::set_ioapic_pin(unsigned pin, IrqSource source, bool level) {
  if (pin == kPicPin || pin >= kIoApicPins || source >= kIrqSources) return;
  std::scoped_lock hold(wires_mutex_);
  drive(kPicWires + pin, source, level);
}

void InterruptFabric::set_pic_input(unsigned irq, IrqSource source, bool level) {
  if (irq >= kPicWires || irq == kCascadeIrq || source >= kIrqSources) return;
  std::scoped_lock hold(wires_mutex_);
  drive(irq, source, level);
}

void InterruptFabric::set_gsi(Gsi gsi, IrqSource source, bool level) {
  if (gsi >= kPicWires)
    set_ioapic_pin(gsi, source, level);
  else if (gsi != kPicPin)
    set_isa(gsi == isa_pin(0) ? 0 : gsi, source, level);
}

bool InterruptFabric::msi(std::uint64_t address, std::uint32_t data) {
  const auto message = decode_msi(address, data);
  if (!message) return false;
  deliver(*message);
  return true;
}

void InterruptFabric::pulse_nmi() {
  lapics_.front()->set_lint(1, true);
  lapics_.front()->set_lint(1, false);
}

// --- the native timers ---

void InterruptFabric::set_pit(bool level) {
  std::scoped_lock hold(wires_mutex_);
  pit_ = level;
  if (!legacy_.load(std::memory_order_relaxed)) drive_isa(kPitIrq, kPitSource, level);
}

void InterruptFabric::set_rtc(bool level) {
  std::scoped_lock hold(wires_mutex_);
  rtc_ = level;
  if (!legacy_.load(std::memory_order_relaxed)) drive_isa(kRtcIrq, kRtcSource, level);
}

void InterruptFabric::set_legacy_replacement(bool on) {
  std::scoped_lock hold(wires_mutex_);
  if (legacy_.exchange(on, std::memory_order_acq_rel) == on) return;
  drive_isa(kPitIrq, kPitSource, !on && pit_);
  drive_isa(kRtcIrq, kRtcSource, !on && rtc_);
}

void InterruptFabric::set_hpet_legacy(unsigned comparator, bool level) {
  if (comparator > 1) return;
  std::scoped_lock hold(wires_mutex_);
  drive_isa(comparator == 0 ? kPitIrq : kRtcIrq, static_cast<IrqSource>(kHpetSource + comparator),
            level);
}

bool InterruptFabric::isa_heard(unsigned irq) const noexcept {
  return (pic_.unmasked() >> irq & 1) != 0 || pin_heard(isa_pin(irq));
}

bool InterruptFabric::pin_heard(unsigned pin) const noexcept {
  return (ioapic_.unmasked() >> pin & 1) != 0;
}

bool InterruptFabric::pit_heard() const noexcept {
  return !legacy_.load(std::memory_order_acquire) && isa_heard(kPitIrq);
}

bool InterruptFabric::rtc_heard() const noexcept {
  return !legacy_.load(std::memory_order_acquire) && isa_heard(kRtcIrq);
}

void InterruptFabric::on_reach_change(std::function<void()> listener) {
  reach_listeners_.push_back(std::move(listener));
}

void InterruptFabric::on_level_eoi(std::function<void(VcpuIndex)> wait) {
  level_eoi_ = std::move(wait);
}

// --- local APICs in the host's kernel ---

void InterruptFabric::use(KernelApics* kernel) {
  {
    std::unique_lock hold(place_);
    kernel_ = kernel;
    lent_ = false;
  }
  level_messages_changed();
}

void InterruptFabric::lend() {
  std::unique_lock hold(place_);
  if (kernel_ == nullptr || lent_) return;
  for (const auto& lapic : lapics_) kernel_->give(lapic->index(), lapic->lend());
  lent_ = true;
}

void InterruptFabric::take_back() {
  std::unique_lock hold(place_);
  if (!lent_) return;
  for (const auto& lapic : lapics_) lapic->take_back(kernel_->take(lapic->index()));
  lent_ = false;
}

void InterruptFabric::end_of_interrupt(VcpuIndex vcpu, std::uint8_t vector) {
  before_level_eoi(vcpu);
  broadcast_eoi(vector);
}

void InterruptFabric::level_messages_changed() {
  std::shared_lock hold(place_);
  if (kernel_ == nullptr) return;
  std::vector<PinMessage> messages;
  ioapic_.each_level_message([&messages](unsigned pin, const InterruptMessage& message) {
    messages.push_back({pin, message});
  });
  kernel_->watch(messages);
}

void InterruptFabric::reach_changed() {
  for (const auto& listener : reach_listeners_) listener();
}

// --- the bus between IO-APIC, messages and local APICs ---

void InterruptFabric::deliver(const InterruptMessage& message) {
  std::shared_lock hold(place_);
  if (lent_) return kernel_->deliver(message);
  if (message.mode == DeliveryMode::kLowestPriority) return deliver_lowest(message);
  for (const auto& lapic : lapics_)
    if (lapic->matches(message)) lapic->accept(message);
}

// SDM Vol. 3, "Lowest Priority Delivery Mode": the one of lowest arbitration priority; among
// equals it goes round, so that no vCPU gets all.
void InterruptFabric::deliver_lowest(const InterruptMessage& message) {
  const std::size_t count = lapics_.size();
  const std::size_t first = turn_.load(std::memory_order_relaxed) % count;
  Lapic* best = nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    Lapic& lapic = *lapics_[(first + i) % count];
    if (!lapic.matches(message) || !lapic.arbitrates()) continue;
    if (best == nullptr || lapic.priority() < best->priority()) best = &lapic;
  }
  if (best == nullptr) return;
  turn_.store(static_cast<std::uint8_t>(best->index() + 1), std::memory_order_relaxed);
  best->accept(message);
}

void InterruptFabric::deliver_all(const InterruptMessage& message,
                                  std::optional<VcpuIndex> except) {
  for (const auto& lapic : lapics_)
    if (lapic->index() != except) lapic->accept(message);
}

void InterruptFabric::before_level_eoi(VcpuIndex vcpu) {
  if (level_eoi_) level_eoi_(vcpu);
}

void InterruptFabric::broadcast_eoi(std::uint8_t vector) { ioapic_.end_of_interrupt(vector); }

std::uint8_t InterruptFabric::acknowledge_pic() { return pic_.acknowledge(); }

void InterruptFabric::pic_output(bool level) {
  lapics_.front()->set_lint(0, level);
  ioapic_.set_pin(kPicPin, level);
}

void Line::set(bool level) const {
  switch (kind_) {
    case Kind::kNone: break;
    case Kind::kIsa: fabric_->set_isa(number_, source_, level); break;
    case Kind::kIoApic: fabric_->set_ioapic_pin(number_, source_, level); break;
    case Kind::kPic: fabric_->set_pic_input(number_, source_, level); break;
  }
}

}  // namespace hv
