#include "vm/vm.h"

#include <cstdio>

#include "accel/frequencies.h"
#include "base/state.h"
#include "base/thread.h"

namespace hv {
namespace {

constexpr Signal kEdges[] = {Signal::kNmi, Signal::kInit, Signal::kSipi};
constexpr std::uint64_t kA20Closed = ~(1ull << 20);

std::string describe(const Bus::Unclaimed& access) {
  char text[96];
  const bool ports = access.space == Space::kPorts;
  std::snprintf(text, sizeof text, "%s of %u bytes at %s 0x%llx by vCPU %u",
                access.write ? "write" : "read", access.size, ports ? "port" : "address",
                static_cast<unsigned long long>(access.at), access.vcpu);
  return text;
}

}  // namespace

std::unique_ptr<Vm> Vm::create(const VmConfig& config, const Accelerator& accelerator,
                               VmOwner& owner, std::string& error) {
  if (config.cpus == 0 || config.cpus > kMaxVcpus) {
    error = std::to_string(config.cpus) + " vCPUs: a VM has 1 to " + std::to_string(kMaxVcpus);
    return nullptr;
  }
  std::unique_ptr<Vm> vm{new Vm{config, owner}};
  error = vm->assemble(accelerator);
  if (!error.empty()) return nullptr;
  vm->start_threads();
  return vm;
}

std::string Vm::assemble(const Accelerator& accelerator) {
  std::string error;
  memory_ = GuestMemory::create(config_.memory, error);
  if (memory_ == nullptr) return error;
  machine_ = accelerator.create_machine(*memory_);
  if (machine_ == nullptr)
    return "accelerator " + std::string{accelerator.name()} + " made no machine";
  std::shared_ptr<SharedWire> shared =
      SharedWire::create(config_.cpus, machine_->bells() != nullptr);
  if (shared == nullptr) return "the host has no memory for the exits' rings";
  Bus::OnUnclaimed refuse;
  if (config_.strict_io)
    refuse = [this](const Bus::Unclaimed& access) { refuse_unclaimed(access); };
  bus_ = std::make_unique<Bus>(std::move(shared), [this] { owner_.wake(); }, std::move(refuse));
  bus_->map().belfry().use(machine_->bells());
  for (VcpuIndex i = 0; i < config_.cpus; ++i)
    signals_.push_back(&vcpus_.emplace_back(static_cast<VcpuHost&>(*this), i).signals);
  const BoardConfig board{memory_->low_size(), memory_->high_size(), config_.rtc_utc,
                          config_.x2apic};
  board_ = std::make_unique<Board>(board, signals_, *bus_);
  crowded_ = config_.cpus > host::usable_cores();
  kernel_apics_ = machine_->use_kernel_apics();
  board_->fabric.use(kernel_apics_);
  if (kernel_apics_ != nullptr)
    look_timer_ = std::make_unique<Timer>(board_->timers, [this](std::uint64_t) { look_for_life(); });
  reset_cpus();
  return {};
}

void Vm::start_threads() {
  for (VcpuIndex i = 0; i < config_.cpus; ++i) {
    VcpuWiring wiring{i, config_.cpus, static_cast<Platform&>(*this), vcpus_[i].signals, signals_};
    wiring.ignore_unknown_msrs = config_.ignore_unknown_msrs;
    vcpus_[i].start(*machine_, wiring);
  }
  std::unique_lock lock{mutex_};
  gate_.wait(lock, [this] { return phase_ == Phase::kParked; });
}

Vm::~Vm() {
  stop();
  for (VcpuThread& vcpu : vcpus_) vcpu.join();
  look_timer_.reset();
  if (board_ != nullptr) board_->fabric.use(nullptr);  // before the machine, which has them
}

// --- the owner's thread -----------------------------------------------------------------------

bool Vm::run() {
  std::scoped_lock hold{mutex_};
  if (phase_ != Phase::kParked) return false;
  ++rounds_;
  board_->clock.resume();
  if (ParavirtualClock* const clock = machine_->clock()) clock->start();
  if (kernel_apics_ != nullptr) lend_apics();
  open_gate();
  return true;
}

void Vm::kick_all() {
  for (VcpuSignals* signals : signals_) signals->raise(Signal::kExit);
}

void Vm::park() {
  {
    std::scoped_lock hold{mutex_};
    looking_.store(false, std::memory_order_seq_cst);
    if (phase_ != Phase::kRunning) return;
    phase_ = Phase::kParking;
    parking_.store(true, std::memory_order_seq_cst);
  }
  kick_all();
}

bool Vm::parked() const {
  std::scoped_lock hold{mutex_};
  return phase_ == Phase::kParked;
}

bool Vm::stopped() const {
  std::scoped_lock hold{mutex_};
  return phase_ == Phase::kStopped;
}

void Vm::stop() {
  {
    std::scoped_lock hold{mutex_};
    if (phase_ == Phase::kStopped) return;
    phase_ = Phase::kStopped;
    parking_.store(true, std::memory_order_seq_cst);
  }
  if (bus_ != nullptr) bus_->channel().cancel();
  kick_all();
  gate_.notify_all();
  if (board_ != nullptr) board_->clock.pause();
}

void Vm::reset_cpus() {
  for (VcpuIndex i = 0; i < config_.cpus; ++i) {
    for (const Signal edge : kEdges) vcpus_[i].signals.clear(edge);
    vcpus_[i].shown = reset_state(i == 0);
    vcpus_[i].changed = true;
  }
}

bool Vm::reset() {
  if (!parked()) return false;
  board_->timers.settle();
  reset_cpus();
  set_a20(true);
  board_->reset();
  return true;
}

void Vm::nmi() { signals_[0]->raise(Signal::kNmi); }

void Vm::set_a20(bool open) {
  a20_.store(open ? ~0ull : kA20Closed, std::memory_order_seq_cst);
  for (VcpuSignals* signals : signals_) signals->raise(Signal::kFlushTlb);
}

const CpuState* Vm::cpu(VcpuIndex index) const {
  return parked() && index < config_.cpus ? &vcpus_[index].shown : nullptr;
}

bool Vm::set_cpu(VcpuIndex index, const CpuState& state) {
  if (!parked() || index >= config_.cpus) return false;
  vcpus_[index].shown = state;
  vcpus_[index].changed = true;
  return true;
}

bool Vm::log_writes(bool on) { return parked() && machine_->log_writes(on); }

std::optional<std::vector<std::uint64_t>> Vm::take_written() {
  if (!parked()) return std::nullopt;
  return machine_->take_written();
}

void Vm::refuse_unclaimed(const Bus::Unclaimed& access) {
  if (parking() && !looking_.load(std::memory_order_seq_cst)) return;  // one is enough
  owner_.notice({VmEvent::kUnhandledIo, access.vcpu, 0, describe(access)});
  park();
}

// --- Platform -----------------------------------------------------------------------------------

std::uint32_t Vm::in(VcpuIndex vcpu, std::uint16_t port, unsigned size) {
  return static_cast<std::uint32_t>(bus_->read(vcpu, Space::kPorts, port, size));
}

void Vm::out(VcpuIndex vcpu, std::uint16_t port, unsigned size, std::uint32_t value) {
  bus_->write(vcpu, Space::kPorts, port, size, value);
}

std::uint64_t Vm::read(VcpuIndex vcpu, Gpa at, unsigned size) {
  Lapic& lapic = board_->fabric.lapic(vcpu);
  if (lapic.decodes(at)) return lapic.read(raw(at) & ~kPageMask, size);
  return bus_->read(vcpu, Space::kMemory, raw(at), size);
}

void Vm::write(VcpuIndex vcpu, Gpa at, unsigned size, std::uint64_t value) {
  Lapic& lapic = board_->fabric.lapic(vcpu);
  if (lapic.decodes(at)) return lapic.write(raw(at) & ~kPageMask, size, value);
  bus_->write(vcpu, Space::kMemory, raw(at), size, value);
}

std::optional<std::uint64_t> Vm::read_apic_msr(VcpuIndex vcpu, std::uint32_t index) {
  return board_->fabric.lapic(vcpu).read_msr(index);
}

bool Vm::write_apic_msr(VcpuIndex vcpu, std::uint32_t index, std::uint64_t value) {
  return board_->fabric.lapic(vcpu).write_msr(index, value);
}

std::uint8_t Vm::cr8(VcpuIndex vcpu) { return board_->fabric.lapic(vcpu).cr8(); }
void Vm::set_cr8(VcpuIndex vcpu, std::uint8_t value) { board_->fabric.lapic(vcpu).set_cr8(value); }

std::optional<std::uint8_t> Vm::acknowledge_interrupt(VcpuIndex vcpu) {
  return board_->fabric.lapic(vcpu).acknowledge();
}

void Vm::end_of_interrupt(VcpuIndex vcpu, std::uint8_t vector) {
  board_->fabric.end_of_interrupt(vcpu, vector);
}

std::uint64_t Vm::tsc() { return board_->clock.tsc(); }
std::uint64_t Vm::tsc_frequency() const { return kTscHz; }

void Vm::spin_hint(VcpuIndex) {
  if (crowded_) host::yield_core();
}

}  // namespace hv
