// MOVS CMPS STOS LODS SCAS, once or repeated. A repetition goes in chunks: each leaves RIP at the
// instruction while there is more to do, so that the loop looks at the signals in between.
#include <algorithm>
#include <cstring>

#include "softcpu/exec_integer.h"

namespace hv::softcpu {

namespace {

// Items that one chunk does one by one.
constexpr unsigned kItems = 128;

template <class T>
std::uint64_t step(const Cpu& cpu) {
  return (cpu.system_flags & kDf) != 0 ? 0 - std::uint64_t{sizeof(T)} : sizeof(T);
}
std::uint64_t source_at(const Cpu& cpu, const Insn& i) { return cut(cpu.gpr[kRsi], i.address); }
std::uint64_t destination_at(const Cpu& cpu, const Insn& i) {
  return cut(cpu.gpr[kRdi], i.address);
}
void move(Cpu& cpu, const Insn& i, unsigned number, std::uint64_t by) {
  set_by_address(cpu, number, cpu.gpr[number] + by, i.address);
}
std::uint64_t left(const Cpu& cpu, const Insn& i) { return cut(cpu.gpr[kRcx], i.address); }
void set_left(Cpu& cpu, const Insn& i, std::uint64_t count) {
  set_by_address(cpu, kRcx, count, i.address);
}

// Items from `offset` upwards that need no second look: before the segment's end, the address
// size's end and the page's end.
std::uint64_t straight(const Cpu& cpu, const Insn& i, unsigned segment, std::uint64_t offset,
                       std::uint64_t size, bool writes) {
  const Cpu::Window& window = cpu.windows[segment];
  const std::uint64_t end = std::min(writes ? window.write_end : window.read_end,
                                     kAddressMask[i.address]);
  if (offset >= end) return 0;
  const std::uint64_t linear = (window.base + offset) & cpu.linear_mask;
  return std::min(end - offset, kPageSize - (linear & ~kPageMask)) / size;
}
std::uint8_t* run_at(Cpu& cpu, unsigned segment, std::uint64_t offset, std::uint64_t bytes,
                     AccessKind kind) {
  const std::uint64_t linear = (cpu.windows[segment].base + offset) & cpu.linear_mask;
  return cpu.host_run(linear, bytes, kind);
}

template <class T>
void fill(std::uint8_t* to, T value, std::uint64_t count) {
  if constexpr (sizeof(T) == 1) {
    std::memset(to, value, count);
  } else {
    for (std::uint64_t n = 0; n < count; ++n) std::memcpy(to + n * sizeof(T), &value, sizeof(T));
  }
}

// Forwards, item after item: what has been written is read again where the runs overlap so.
template <class T>
void copy(std::uint8_t* to, const std::uint8_t* from, std::uint64_t count) {
  const bool repeats = to > from && to < from + count * sizeof(T);
  if (!repeats) {
    std::memmove(to, from, count * sizeof(T));
    return;
  }
  for (std::uint64_t n = 0; n < count; ++n) {
    T item;
    std::memcpy(&item, from + n * sizeof(T), sizeof(T));
    std::memcpy(to + n * sizeof(T), &item, sizeof(T));
  }
}

// Items of both runs that are alike, from the first on; at most `count`.
template <class T>
std::uint64_t alike(const std::uint8_t* a, const std::uint8_t* b, std::uint64_t count) {
  const std::uint64_t bytes = count * sizeof(T);
  std::uint64_t n = 0;
  while (n + 8 <= bytes && access::load<std::uint64_t>(a + n) == access::load<std::uint64_t>(b + n))
    n += 8;
  n -= n % sizeof(T);
  while (n < bytes && access::load<T>(a + n) == access::load<T>(b + n)) n += sizeof(T);
  return n / sizeof(T);
}
// Items up to the first that is `value` (or that is not), which is counted in.
template <class T>
std::uint64_t items_to(const std::uint8_t* at, T value, bool is, std::uint64_t count) {
  std::uint64_t n = 0;
  while (n < count)
    if ((access::load<T>(at + n++ * sizeof(T)) == value) == is) break;
  return n;
}

bool repeats_while_equal(const Insn& i) { return static_cast<Repeat>(i.repeat) == Repeat::kRepe; }

// The operations. once(): one item, registers moved last; true when a repetition may go on.
// bulk(): as many of `most` items as lie straight, or 0. more(): after bulk(), as once().
template <class T>
struct Movs {
  static bool once(Cpu& cpu, const Insn& i) {
    const T value = cpu.read<T>(i.segment, source_at(cpu, i));
    cpu.write<T>(kEs, destination_at(cpu, i), value);
    move(cpu, i, kRsi, step<T>(cpu));
    move(cpu, i, kRdi, step<T>(cpu));
    return true;
  }
  static std::uint64_t bulk(Cpu& cpu, const Insn& i, std::uint64_t most) {
    const std::uint64_t from = source_at(cpu, i), to = destination_at(cpu, i);
    const std::uint64_t count = std::min({most, straight(cpu, i, i.segment, from, sizeof(T), false),
                                          straight(cpu, i, kEs, to, sizeof(T), true)});
    if (count == 0) return 0;
    const std::uint64_t bytes = count * sizeof(T);
    std::uint8_t* const source = run_at(cpu, i.segment, from, bytes, AccessKind::kRead);
    if (source == nullptr) return 0;
    std::uint8_t* const target = run_at(cpu, kEs, to, bytes, AccessKind::kWrite);
    if (target == nullptr) return 0;
    copy<T>(target, source, count);
    move(cpu, i, kRsi, bytes);
    move(cpu, i, kRdi, bytes);
    return count;
  }
  static bool more(const Cpu&, const Insn&) { return true; }
};
template <class T>
struct Stos {
  static bool once(Cpu& cpu, const Insn& i) {
    cpu.write<T>(kEs, destination_at(cpu, i), cpu.reg<T>(kRax));
    move(cpu, i, kRdi, step<T>(cpu));
    return true;
  }
  static std::uint64_t bulk(Cpu& cpu, const Insn& i, std::uint64_t most) {
    const std::uint64_t to = destination_at(cpu, i);
    const std::uint64_t count = std::min(most, straight(cpu, i, kEs, to, sizeof(T), true));
    if (count == 0) return 0;
    std::uint8_t* const target = run_at(cpu, kEs, to, count * sizeof(T), AccessKind::kWrite);
    if (target == nullptr) return 0;
    fill<T>(target, cpu.reg<T>(kRax), count);
    move(cpu, i, kRdi, count * sizeof(T));
    return count;
  }
  static bool more(const Cpu&, const Insn&) { return true; }
};
template <class T>
struct Lods {
  static bool once(Cpu& cpu, const Insn& i) {
    const T value = cpu.read<T>(i.segment, source_at(cpu, i));
    cpu.set_reg<T>(kRax, value);
    move(cpu, i, kRsi, step<T>(cpu));
    return true;
  }
  static std::uint64_t bulk(Cpu&, const Insn&, std::uint64_t) { return 0; }
  static bool more(const Cpu&, const Insn&) { return true; }
};
bool goes_on(const Cpu& cpu, const Insn& i) { return cpu.flags.zf() == repeats_while_equal(i); }
template <class T>
struct Scas {
  static bool more(const Cpu& cpu, const Insn& i) { return goes_on(cpu, i); }
  static bool once(Cpu& cpu, const Insn& i) {
    const T value = cpu.read<T>(kEs, destination_at(cpu, i));
    cpu.flags.sub(cpu.reg<T>(kRax), value);
    move(cpu, i, kRdi, step<T>(cpu));
    return goes_on(cpu, i);
  }
  static std::uint64_t bulk(Cpu& cpu, const Insn& i, std::uint64_t most) {
    const std::uint64_t at = destination_at(cpu, i);
    const std::uint64_t count = std::min(most, straight(cpu, i, kEs, at, sizeof(T), false));
    if (count == 0) return 0;
    const std::uint8_t* const run = run_at(cpu, kEs, at, count * sizeof(T), AccessKind::kRead);
    if (run == nullptr) return 0;
    const T value = cpu.reg<T>(kRax);
    const std::uint64_t done = items_to<T>(run, value, !repeats_while_equal(i), count);
    cpu.flags.sub(value, access::load<T>(run + (done - 1) * sizeof(T)));
    move(cpu, i, kRdi, done * sizeof(T));
    return done;
  }
};
template <class T>
struct Cmps {
  static bool more(const Cpu& cpu, const Insn& i) { return goes_on(cpu, i); }
  static bool once(Cpu& cpu, const Insn& i) {
    const T a = cpu.read<T>(i.segment, source_at(cpu, i));
    const T b = cpu.read<T>(kEs, destination_at(cpu, i));
    cpu.flags.sub(a, b);
    move(cpu, i, kRsi, step<T>(cpu));
    move(cpu, i, kRdi, step<T>(cpu));
    return goes_on(cpu, i);
  }
  static std::uint64_t bulk(Cpu& cpu, const Insn& i, std::uint64_t most) {
    if (!repeats_while_equal(i)) return 0;
    const std::uint64_t from = source_at(cpu, i), to = destination_at(cpu, i);
    const std::uint64_t count = std::min({most, straight(cpu, i, i.segment, from, sizeof(T), false),
                                          straight(cpu, i, kEs, to, sizeof(T), false)});
    if (count == 0) return 0;
    const std::uint64_t bytes = count * sizeof(T);
    const std::uint8_t* const a = run_at(cpu, i.segment, from, bytes, AccessKind::kRead);
    if (a == nullptr) return 0;
    const std::uint8_t* const b = run_at(cpu, kEs, to, bytes, AccessKind::kRead);
    if (b == nullptr) return 0;
    // The last item is looked at once more, as flags come of one and the same reading.
    const std::uint64_t done = std::min(alike<T>(a, b, count) + 1, count);
    const std::uint64_t last = (done - 1) * sizeof(T);
    cpu.flags.sub(access::load<T>(a + last), access::load<T>(b + last));
    move(cpu, i, kRsi, done * sizeof(T));
    move(cpu, i, kRdi, done * sizeof(T));
    return done;
  }
};

template <class Operation>
bool try_bulk(Cpu& cpu, const Insn& i, std::uint64_t& count) {
  const std::uint64_t done = Operation::bulk(cpu, i, count);
  if (done == 0) return false;
  count -= done;
  set_left(cpu, i, count);
  return true;
}

// One chunk; true when there is more to do. Where no bulk is to be had, the first item may bring
// its page in.
template <class Operation>
bool chunk(Cpu& cpu, const Insn& i, std::uint64_t count) {
  const bool single = cpu.slow_mode();
  const bool bulky = !single && (cpu.system_flags & kDf) == 0;
  const auto in_bulk = [&] { return bulky && try_bulk<Operation>(cpu, i, count); };
  if (in_bulk()) return count != 0 && Operation::more(cpu, i);
  for (unsigned n = 0; n < (single ? 1 : kItems); ++n) {
    const bool more = Operation::once(cpu, i);
    set_left(cpu, i, --count);
    if (count == 0 || !more) return false;
    if (n == 0 && in_bulk()) return count != 0 && Operation::more(cpu, i);
  }
  return true;
}

template <template <class> class Operation>
struct String {
  template <class T>
  struct Once {
    static void reg(Cpu& cpu, const Insn& i) { Operation<T>::once(cpu, i); }
  };
  template <class T>
  struct Repeated {
    static void reg(Cpu& cpu, const Insn& i) {
      const std::uint64_t count = left(cpu, i);
      if (count == 0 || !chunk<Operation<T>>(cpu, i, count)) return;
      cpu.gpr[kRip] = cpu.instruction_start();
      cpu.count.instructions -= 1;  // the loop counts this run of the handler as one
    }
  };
};

constexpr Binding kRepeated[] = {
    sized<String<Movs>::Repeated>(Op::kMovs), sized<String<Cmps>::Repeated>(Op::kCmps),
    sized<String<Stos>::Repeated>(Op::kStos), sized<String<Lods>::Repeated>(Op::kLods),
    sized<String<Scas>::Repeated>(Op::kScas),
};

}  // namespace

Handler bind_repeated(const Insn& insn) {
  for (const Binding& binding : kRepeated)
    if (binding.op == insn.op) return binding.reg[insn.size];
  return nullptr;
}

std::span<const Binding> string_bindings() {
  static constexpr Binding kAll[] = {
      sized<String<Movs>::Once>(Op::kMovs), sized<String<Cmps>::Once>(Op::kCmps),
      sized<String<Stos>::Once>(Op::kStos), sized<String<Lods>::Once>(Op::kLods),
      sized<String<Scas>::Once>(Op::kScas),
  };
  return kAll;
}

}  // namespace hv::softcpu
