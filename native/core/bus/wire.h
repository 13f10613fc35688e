// What vCPU threads and the JavaScript thread share to meet: one block of memory per VM, mirrored
// field by field in native/bus/wire.ts.
//
// Every posted write, doorbell and direct access takes a ticket from `issued`; tickets are dense
// and each is published exactly once, either as an entry of the vCPU's ring or in its mailbox. The
// consumer (JavaScript) serves tickets strictly in order, so it needs no other rule for order:
// where the next ticket is not published yet, its vCPU is between the two steps and will wake the
// consumer. A vCPU takes a ticket only when it has room to publish it, and never waits in between.
//
// Pairs of seq_cst operations, each a store followed by a load on both sides:
//   publish (ring head, mailbox state), then `sleeping`   with   `sleeping` = 1, then look again
//   `blocked` = wish, then ring tail                      with   ring tail, then `blocked`
//   guest memory, then a doorbell's slot                  with   slot = 0, then guest memory
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace hv::wire {

using Word = std::atomic<std::uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free);

inline constexpr std::uint32_t kRingEntries = 1024;  // a power of two

enum class Kind : std::uint32_t { kRead = 0, kWrite = 1, kDoorbell = 2 };

// Bits 15:0 range, 19:16 size in bytes, 23:20 kind, 31:24 doorbell slot (kNoSlot: none).
inline constexpr std::uint32_t kNoSlot = 255;
constexpr std::uint32_t header(std::uint32_t range, unsigned size, Kind kind,
                               std::uint32_t slot = kNoSlot) {
  return range | (size << 16) | (static_cast<std::uint32_t>(kind) << 20) | (slot << 24);
}
constexpr std::uint32_t range_of(std::uint32_t header) { return header & 0xffff; }
constexpr unsigned size_of(std::uint32_t header) { return (header >> 16) & 15; }
constexpr Kind kind_of(std::uint32_t header) { return static_cast<Kind>((header >> 20) & 15); }
constexpr std::uint32_t slot_of(std::uint32_t header) { return header >> 24; }

struct Entry {
  std::uint32_t ticket, header, offset, value;
};
static_assert(sizeof(Entry) == 16);

enum class Mail : std::uint32_t { kIdle = 0, kAsked = 1, kAnswered = 2, kCancelled = 3 };
enum class Wish : std::uint32_t { kNone = 0, kRoom = 1, kEmpty = 2 };

struct Mailbox {
  Word state;  // Mail; the vCPU sleeps on it
  std::uint32_t ticket, header, offset, value;
  Word core;  // where the vCPU last ran when it published; all ones when unknown
};

struct VcpuWire {
  alignas(64) Word head;     // entries published, counted on without end; the vCPU writes it
  alignas(64) Word tail;     // entries served; the consumer writes it
  Word blocked;              // Wish; the vCPU sleeps on it
  alignas(64) Mailbox mail;
  alignas(64) Entry ring[kRingEntries];
};
static_assert(offsetof(VcpuWire, tail) == 64 && offsetof(VcpuWire, blocked) == 68);
static_assert(offsetof(VcpuWire, mail) == 128 && offsetof(VcpuWire, ring) == 192);
static_assert(sizeof(VcpuWire) == 192 + 16 * kRingEntries);

struct Control {
  alignas(64) Word issued;    // the next ticket to be taken
  alignas(64) Word served;    // the next ticket to be served
  alignas(64) Word sleeping;  // 1: the consumer must be woken after a publication
  Word consumer_core;         // where the consumer last ran; all ones when unknown
};
static_assert(sizeof(Control) == 192);

// In front of the published bytes of a range, in one mapping of the range's own.
inline constexpr std::uint32_t kDoorbellSlots = 64;
struct DoorbellSlot {
  Word key;     // offset << 16 | value of the doorbell that owns the slot for good; 0: free
  Word ticket;  // of its entry that waits to be served; 0: none
};
struct RangeWire {
  alignas(64) Word pending;  // posted entries of this range that are not served yet
  alignas(64) DoorbellSlot doorbells[kDoorbellSlots];
  static constexpr std::size_t kShadow = 1024;  // where the published bytes begin
};
static_assert(offsetof(RangeWire, doorbells) == 64 && sizeof(RangeWire) <= RangeWire::kShadow);

// Tickets wrap: a before b.
constexpr bool before(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::int32_t>(a - b) < 0;
}

}  // namespace hv::wire
