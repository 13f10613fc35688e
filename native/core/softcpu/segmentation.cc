// Descriptor tables and segment registers: SDM Vol. 3, "Protected-Mode Memory Management" and
// "Protection"; MOV Sreg in Vol. 2.
#include "softcpu/system_ops.h"

namespace hv::softcpu {

void raise_selector(Cpu& cpu, Vector vector, std::uint32_t selector) {
  cpu.raise(vector, (selector & 0xfffe) | cpu.system.external);
}

bool find_descriptor(Cpu& cpu, std::uint16_t selector, Found& out, bool wide) {
  const bool local = (selector & 4) != 0;
  if (local && (cpu.ldtr.access & kUnusable) != 0) return false;
  const std::uint64_t base = local ? cpu.ldtr.base : cpu.gdtr.base;
  const std::uint32_t limit = local ? cpu.ldtr.limit : cpu.gdtr.limit;
  const std::uint32_t offset = selector & 0xfff8u;
  if (offset + (wide ? 15u : 7u) > limit) return false;
  out.linear = base + offset;
  if (!cpu.long_mode()) out.linear &= 0xffff'ffff;
  out.d.low = cpu.read_system<std::uint64_t>(out.linear);
  out.d.high = wide ? cpu.read_system<std::uint64_t>(out.linear + 8) : 0;
  return true;
}

Found need_descriptor(Cpu& cpu, std::uint16_t selector, Vector vector, bool wide) {
  Found found;
  require(cpu, find_descriptor(cpu, selector, found, wide), vector, selector & 0xfffcu);
  return found;
}

void change_type(Cpu& cpu, std::uint64_t descriptor, std::uint8_t set, std::uint8_t clear) {
  const Pieces at = cpu.pieces(Cpu::kNoSegment, descriptor + 5, 1, AccessKind::kWrite,
                               Cpu::Rights::kSystem);
  cpu.before_store(at);
  if (at[0].host != nullptr) {
    access::update<std::uint8_t>(at[0].host, true, [=](std::uint8_t type) {
      return static_cast<std::uint8_t>((type & ~clear) | set);
    });
  } else {
    std::uint8_t type = 0;
    cpu.load_pieces(at, &type);
    type = static_cast<std::uint8_t>((type & ~clear) | set);
    cpu.store_pieces(at, &type);
  }
  cpu.after_store(at);
}

void touch_descriptor(Cpu& cpu, Found& f) {
  if ((f.d.type() & kAccessed) != 0) return;
  change_type(cpu, f.linear, kAccessed, 0);
  f.d.low |= 1ull << 40;
}

Segment null_segment(std::uint16_t selector) { return {0, 0, kUnusable, selector}; }

Segment null_stack_segment(unsigned cpl) {
  return {0, 0, kUnusable | cpl << 5, static_cast<std::uint16_t>(cpl)};
}

// Limit and rights stay in real mode (SDM Vol. 3, "Real-Address Mode Operation"), which "big real
// mode" relies on; an unusable segment becomes a plain one.
Segment real_segment(const Segment& before, std::uint16_t selector) {
  const std::uint64_t base = std::uint64_t{selector} << 4;
  if ((before.access & kUnusable) != 0) return {base, 0xffff, 0x93, selector};
  return {base, before.limit, before.access & ~0x60u, selector};
}

Segment v86_segment(std::uint16_t selector) {
  return {std::uint64_t{selector} << 4, 0xffff, 0xf3, selector};
}

Segment stack_segment(Cpu& cpu, std::uint16_t selector, unsigned cpl, Vector vector) {
  const std::uint32_t named = selector & 0xfffcu;
  require(cpu, !null_selector(selector), vector, 0);
  Found f = need_descriptor(cpu, selector, vector);
  require(cpu, (selector & 3u) == cpl && f.d.writable() && f.d.dpl() == cpl, vector, named);
  require(cpu, f.d.present(), Vector::kSs, named);
  touch_descriptor(cpu, f);
  return f.d.segment(selector);
}

namespace {

void load_stack_register(Cpu& cpu, std::uint16_t selector) {
  Segment& ss = cpu.segments[kSs];
  if (!null_selector(selector)) {
    ss = stack_segment(cpu, selector, cpu.cpl, Vector::kGp);
  } else {
    require(cpu, cpu.long64 && cpu.cpl != 3 && selector == cpu.cpl, Vector::kGp, 0);
    ss = null_stack_segment(cpu.cpl);
  }
}

void load_data_register(Cpu& cpu, unsigned which, std::uint16_t selector) {
  if (null_selector(selector)) {
    cpu.segments[which] = null_segment(selector);
    return;
  }
  Found f = need_descriptor(cpu, selector, Vector::kGp);
  const std::uint32_t named = selector & 0xfffcu;
  require(cpu, f.d.readable(), Vector::kGp, named);
  const bool checked = !f.d.conforming();
  const bool allowed = (selector & 3u) <= f.d.dpl() && cpu.cpl <= f.d.dpl();
  require(cpu, !checked || allowed, Vector::kGp, named);
  require(cpu, f.d.present(), Vector::kNp, named);
  touch_descriptor(cpu, f);
  cpu.segments[which] = f.d.segment(selector);
}

}  // namespace

void Cpu::load_segment(unsigned which, std::uint16_t selector) {
  if (virtual_8086())
    segments[which] = v86_segment(selector);
  else if (!protected_mode())
    segments[which] = real_segment(segments[which], selector);
  else if (which == kSs)
    load_stack_register(*this, selector);
  else
    load_data_register(*this, which, selector);
  update_window(which);
}

void drop_inaccessible_segments(Cpu& cpu) {
  for (const unsigned which : {kEs, kDs, kFs, kGs}) {
    Segment& s = cpu.segments[which];
    const bool conforming = (s.access & 0x1c) == 0x1c;
    if ((s.access & kUnusable) == 0 && !conforming && segment_dpl(s) < cpu.cpl) {
      s = null_segment(0);
      cpu.update_window(which);
    }
  }
}

void set_code(Cpu& cpu, const Found& code, std::uint16_t selector, unsigned cpl) {
  cpu.segments[kCs] = code.d.segment(static_cast<std::uint16_t>((selector & ~3u) | cpl));
}

void check_target(Cpu& cpu, const Descriptor& code, std::uint64_t rip) {
  if (cpu.long_mode() && code.long_code())
    require(cpu, canonical(rip), Vector::kGp, 0);
  else
    require(cpu, rip <= code.limit(), Vector::kGp, 0);
}

void select_bank(Cpu& cpu) {
  const bool ac = (cpu.system_flags & kAc) != 0;
  const bool user = cpu.cpl == 3;
  const bool open = ac && (cpu.cr4 & kCr4Smap) != 0;
  cpu.tlb.select(user ? Bank::kUser : open ? Bank::kOpen : Bank::kSupervisor,
                 user && ac && (cpu.cr0 & kCr0Am) != 0);
}

// CPL is the DPL of SS, as in a VMCS (SDM Vol. 3, "Guest Register State"): conforming code and the
// real mode need no case of their own.
void Cpu::mode_changed() {
  cpl = !protected_mode() ? 0 : virtual_8086() ? 3 : static_cast<std::uint8_t>(segment_dpl(segments[kSs]));
  long64 = long_mode() && (segments[kCs].access & kLong) != 0;
  linear_mask = long64 ? ~0ull : 0xffff'ffff;
  for (unsigned which = 0; which < kSegCount; ++which) update_window(which);
  select_bank(*this);
}

NewStack::NewStack(Cpu& cpu, const Segment& ss, std::uint64_t sp, unsigned cpl, bool is64)
    : cpu_(cpu),
      ss_(ss),
      sp_(sp),
      mask_(is64 ? ~0ull : (ss.access & kBig) != 0 ? 0xffff'ffff : 0xffff),
      own_rights_(cpl == 3),
      is64_(is64) {}

// Moves the stack pointer down; the address, after the checks that a push makes.
std::uint64_t NewStack::linear(unsigned bytes) {
  sp_ = (sp_ - bytes) & mask_;
  if (is64_) {
    require(cpu_, canonical(sp_) && canonical(sp_ + bytes - 1), Vector::kSs, 0);
    return sp_;
  }
  const std::uint64_t last = sp_ + bytes - 1;
  const bool down = (ss_.access & 0xc) == 4 && !cpu_.real_or_v86();
  const bool within = down ? sp_ > ss_.limit && last <= mask_ : last <= ss_.limit;
  require(cpu_, within, Vector::kSs, segment_dpl(ss_) == cpu_.cpl ? 0 : ss_.selector & 0xfffcu);
  return (ss_.base + sp_) & 0xffff'ffff;
}

void NewStack::push(std::uint64_t value, unsigned bytes) {
  const std::uint64_t at = linear(bytes);
  const auto store = [&]<class T>(T narrow) {
    if (own_rights_)
      cpu_.write_linear<T>(at, narrow);
    else
      cpu_.write_system<T>(at, narrow);
  };
  if (bytes == 2) return store(static_cast<std::uint16_t>(value));
  if (bytes == 4) return store(static_cast<std::uint32_t>(value));
  store(value);
}

StackPointer tss_stack(Cpu& cpu, unsigned cpl) {
  const bool wide = (cpu.tr.access & 8) != 0;  // a 32-bit TSS
  const std::uint32_t offset = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
  require(cpu, offset + (wide ? 5u : 3u) <= cpu.tr.limit, Vector::kTs, cpu.tr.selector & 0xfffcu);
  const std::uint64_t at = (cpu.tr.base + offset) & 0xffff'ffff;
  if (wide)
    return {cpu.read_system<std::uint16_t>(at + 4), cpu.read_system<std::uint32_t>(at)};
  return {cpu.read_system<std::uint16_t>(at + 2), cpu.read_system<std::uint16_t>(at)};
}

std::uint64_t tss64_stack(Cpu& cpu, unsigned slot) {
  const std::uint32_t offset = 4 + 8 * slot;
  require(cpu, offset + 7 <= cpu.tr.limit, Vector::kTs, cpu.tr.selector & 0xfffcu);
  return cpu.read_system<std::uint64_t>(cpu.tr.base + offset);
}

}  // namespace hv::softcpu
