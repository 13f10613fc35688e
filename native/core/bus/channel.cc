#include "bus/channel.h"

#include <sys/mman.h>

#include <chrono>

#include "base/thread.h"

namespace hv {
namespace {

using namespace wire;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using std::memory_order_seq_cst;

constexpr std::uint32_t kUnknownCore = ~0u;
// An answer of a JavaScript thread that is awake takes about a microsecond; past this it is asleep
// or busy, and the core is better given away (reference measurements: 20 us).
constexpr std::chrono::microseconds kSpin{20};

std::uint32_t this_core() { return static_cast<std::uint32_t>(host::current_core()); }
std::uint32_t word(Mail state) { return static_cast<std::uint32_t>(state); }
std::uint32_t word(Wish wish) { return static_cast<std::uint32_t>(wish); }

std::size_t mapped_size(std::size_t size) { return (size + kPageSize - 1) & kPageMask; }

// The doorbells of a range that are coalesced: offset and value both under 16 bits.
std::uint32_t doorbell_key(std::uint32_t offset, std::uint32_t value) {
  const bool fits = offset < 0x10000 && value < 0x10000;
  return fits ? (offset << 16 | value) + 1 : 0;  // 0 also for the one that would wrap
}

// The slot that this doorbell owns, claimed for good on first use; kNoSlot where another has it.
std::uint32_t doorbell_slot(RangeWire& range, std::uint32_t offset, std::uint32_t value) {
  const std::uint32_t key = doorbell_key(offset, value);
  if (key == 0) return kNoSlot;
  const std::uint32_t slot = (offset / 2 + value) % kDoorbellSlots;
  std::uint32_t owner = range.doorbells[slot].key.load(memory_order_relaxed);
  if (owner == 0 &&
      range.doorbells[slot].key.compare_exchange_strong(owner, key, memory_order_relaxed))
    return slot;
  return owner == key ? slot : kNoSlot;
}

}  // namespace

std::shared_ptr<SharedWire> SharedWire::create(VcpuIndex vcpus, bool own_ring) {
  std::shared_ptr<SharedWire> shared{new SharedWire};
  shared->vcpus_ = vcpus + (own_ring ? 1 : 0);
  void* const at = ::mmap(nullptr, mapped_size(shared->size()), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return nullptr;
  shared->base_ = static_cast<std::uint8_t*>(at);
  Control& control = shared->control();
  control.issued.store(1, memory_order_relaxed);  // a doorbell slot's 0 means none
  control.served.store(1, memory_order_relaxed);
  control.sleeping.store(1, memory_order_relaxed);  // nobody has looked yet
  control.consumer_core.store(kUnknownCore, memory_order_relaxed);
  for (VcpuIndex i = 0; i < shared->vcpus_; ++i)
    shared->vcpu(i).mail.core.store(kUnknownCore, memory_order_relaxed);
  return shared;
}

SharedWire::~SharedWire() {
  if (base_ != nullptr) ::munmap(base_, mapped_size(size()));
}

Channel::Channel(std::shared_ptr<SharedWire> shared, std::function<void()> wake)
    : shared_{std::move(shared)}, wake_{std::move(wake)}, last_write_{0} {}

std::uint32_t Channel::take_ticket() {
  return shared_->control().issued.fetch_add(1, memory_order_seq_cst);
}

void Channel::note_core(VcpuIndex vcpu) {
  shared_->vcpu(vcpu).mail.core.store(this_core(), memory_order_relaxed);
  last_vcpu_.store(vcpu, memory_order_relaxed);
}

void Channel::wake_if_sleeping() {
  // After a publication (seq_cst); pairs with try_sleep(). One of several vCPUs does the waking.
  Word& sleeping = shared_->control().sleeping;
  if (sleeping.load(memory_order_seq_cst) == 0 || sleeping.exchange(0, memory_order_seq_cst) == 0)
    return;
  wakes_.fetch_add(1, memory_order_relaxed);
  wake_();
}

bool Channel::wait_for(VcpuIndex vcpu, Wish wish) {
  VcpuWire& mine = shared_->vcpu(vcpu);
  const std::uint32_t limit = wish == Wish::kRoom ? kRingEntries : 1;
  const auto fulfilled = [&] {
    const std::uint32_t tail = mine.tail.load(memory_order_seq_cst);
    return mine.head.load(memory_order_relaxed) - tail < limit;
  };
  while (!fulfilled()) {
    if (cancelled_.load(memory_order_seq_cst)) return false;
    // `blocked`, then look again; pairs with the consumer's tail, then `blocked`.
    mine.blocked.store(word(wish), memory_order_seq_cst);
    if (!fulfilled() && !cancelled_.load(memory_order_seq_cst)) mine.blocked.wait(word(wish));
    mine.blocked.store(word(Wish::kNone), memory_order_seq_cst);
  }
  return true;
}

void Channel::publish(VcpuIndex vcpu, const Entry& entry) {
  VcpuWire& mine = shared_->vcpu(vcpu);
  const std::uint32_t head = mine.head.load(memory_order_relaxed);  // ours alone
  mine.ring[head % kRingEntries] = entry;
  note_core(vcpu);
  mine.head.store(head + 1, memory_order_seq_cst);
  wake_if_sleeping();
}

void Channel::announce(Range& range) {
  range.block->wire().pending.fetch_add(1, memory_order_seq_cst);
}

void Channel::post(VcpuIndex vcpu, Range& range, std::uint32_t offset, unsigned size,
                   std::uint32_t value) {
  if (!wait_for(vcpu, Wish::kRoom)) return;
  const std::uint32_t ticket = take_ticket();
  std::uint32_t last = last_write_.load(memory_order_relaxed);
  while (before(last, ticket) &&
         !last_write_.compare_exchange_weak(last, ticket, memory_order_seq_cst)) {
  }
  publish(vcpu, {ticket, header(range.id, size, Kind::kWrite), offset, value});
}

void Channel::ring(VcpuIndex vcpu, Range& range, std::uint32_t offset, unsigned size,
                   std::uint32_t value) {
  RangeWire& shared = range.block->wire();
  const std::uint32_t slot = doorbell_slot(shared, offset, value);
  if (slot != kNoSlot) {
    // A read-modify-write, so that the guest's stores to its rings come before it: the consumer
    // empties the slot in the same way and then reads the rings. An entry that a posted write came
    // after does not do: this doorbell must be served after that write.
    const std::uint32_t waiting = shared.doorbells[slot].ticket.fetch_add(0, memory_order_seq_cst);
    if (waiting != 0 && before(last_write_.load(memory_order_seq_cst), waiting)) {
      range.counts.coalesced.fetch_add(1, memory_order_relaxed);
      return;
    }
  }
  if (!wait_for(vcpu, Wish::kRoom)) return;
  announce(range);
  const std::uint32_t ticket = take_ticket();
  if (slot != kNoSlot) shared.doorbells[slot].ticket.store(ticket, memory_order_seq_cst);
  publish(vcpu, {ticket, header(range.id, size, Kind::kDoorbell, slot), offset, value});
}

void Channel::wait_answer(Mailbox& mail, std::uint32_t own_core) {
  const auto asked = [&] { return mail.state.load(memory_order_acquire) == word(Mail::kAsked); };
  const std::uint32_t consumer = shared_->control().consumer_core.load(memory_order_relaxed);
  // Spinning helps only while the consumer runs on another core: on ours, it keeps the answer away.
  if (consumer != kUnknownCore && consumer != own_core) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    while (asked() && std::chrono::steady_clock::now() < end) {
    }
  }
  while (asked()) mail.state.wait(word(Mail::kAsked), memory_order_acquire);
}

std::optional<std::uint32_t> Channel::ask(VcpuIndex vcpu, Range& range, std::uint32_t offset,
                                          unsigned size, Kind kind, std::uint32_t value) {
  Mailbox& mail = shared_->vcpu(vcpu).mail;
  if (cancelled_.load(memory_order_seq_cst)) return std::nullopt;
  mail.ticket = take_ticket();
  mail.header = header(range.id, size, kind);
  mail.offset = offset;
  mail.value = value;
  note_core(vcpu);
  mail.state.store(word(Mail::kAsked), memory_order_seq_cst);
  // Pairs with cancel(): it sees kAsked, or we see it.
  if (cancelled_.load(memory_order_seq_cst)) return std::nullopt;
  wake_if_sleeping();
  wait_answer(mail, mail.core.load(memory_order_relaxed));
  if (mail.state.load(memory_order_acquire) != word(Mail::kAnswered)) return std::nullopt;
  const std::uint32_t answer = mail.value;
  mail.state.store(word(Mail::kIdle), memory_order_relaxed);
  return answer;
}

void Channel::drain(VcpuIndex vcpu) { wait_for(vcpu, Wish::kEmpty); }

void Channel::answer(VcpuIndex vcpu, std::uint32_t value) {
  Mailbox& mail = shared_->vcpu(vcpu).mail;
  shared_->control().consumer_core.store(this_core(), memory_order_relaxed);
  mail.value = value;
  std::uint32_t asked = word(Mail::kAsked);
  if (mail.state.compare_exchange_strong(asked, word(Mail::kAnswered), memory_order_seq_cst))
    mail.state.notify_one();
}

void Channel::unblock(VcpuIndex vcpu) {
  Word& blocked = shared_->vcpu(vcpu).blocked;
  blocked.store(word(Wish::kNone), memory_order_seq_cst);
  blocked.notify_one();
}

bool Channel::ready() const {
  const std::uint32_t next = shared_->control().served.load(memory_order_relaxed);
  if (shared_->control().issued.load(memory_order_seq_cst) == next) return false;
  for (VcpuIndex i = 0; i < shared_->vcpus(); ++i) {
    VcpuWire& vcpu = shared_->vcpu(i);
    const std::uint32_t tail = vcpu.tail.load(memory_order_relaxed);
    if (vcpu.head.load(memory_order_seq_cst) != tail &&
        vcpu.ring[tail % kRingEntries].ticket == next)
      return true;
    if (vcpu.mail.state.load(memory_order_seq_cst) == word(Mail::kAsked) &&
        vcpu.mail.ticket == next)
      return true;
  }
  return false;
}

bool Channel::outstanding() const {
  return shared_->control().issued.load(memory_order_seq_cst) !=
         shared_->control().served.load(memory_order_seq_cst);
}

bool Channel::try_sleep() {
  // `sleeping`, then look; pairs with publish, then `sleeping`.
  shared_->control().sleeping.store(1, memory_order_seq_cst);
  if (!ready()) return true;
  woken();
  return false;
}

void Channel::woken() {
  shared_->control().sleeping.store(0, memory_order_seq_cst);
  shared_->control().consumer_core.store(this_core(), memory_order_relaxed);
}

void Channel::woken_by_kernel() {
  wakes_.fetch_add(1, memory_order_relaxed);
  woken();
}

bool Channel::has_room(VcpuIndex own) const {
  const VcpuWire& ring = shared_->vcpu(own);
  return ring.head.load(memory_order_relaxed) - ring.tail.load(memory_order_relaxed) < kRingEntries;
}

bool Channel::peer_elsewhere() const {
  const std::uint32_t peer =
      shared_->vcpu(last_vcpu_.load(memory_order_relaxed)).mail.core.load(memory_order_relaxed);
  return peer != kUnknownCore && peer != this_core();
}

void Channel::cancel() {
  cancelled_.store(true, memory_order_seq_cst);
  for (VcpuIndex i = 0; i < shared_->vcpus(); ++i) {
    std::uint32_t asked = word(Mail::kAsked);
    Mailbox& mail = shared_->vcpu(i).mail;
    mail.state.compare_exchange_strong(asked, word(Mail::kCancelled), memory_order_seq_cst);
    mail.state.notify_all();
    unblock(i);
  }
}

}  // namespace hv
