// Hardware task switches: SDM Vol. 3, "Task Management".
#include "softcpu/overseer.h"
#include "softcpu/system_ops.h"

namespace hv::softcpu {

namespace {

// Where things lie in the two kinds of TSS (SDM Vol. 3, "32-Bit Task-State Segment", "16-Bit
// Task-State Segment").
struct Layout {
  unsigned bytes;  // of a register
  std::uint32_t cr3, eip, eflags, gpr, segments, ldt, trap, minimum_limit;
  unsigned segment_stride, segment_count;
};
constexpr Layout k32Layout{4, 28, 32, 36, 40, 72, 96, 100, 0x67, 4, 6};
constexpr Layout k16Layout{2, 0, 14, 16, 18, 34, 42, 0, 0x2b, 2, 4};
// ES, CS, SS, DS, FS, GS is also the order of SegIndex.

const Layout& layout(bool wide) { return wide ? k32Layout : k16Layout; }

struct TaskImage {
  std::uint32_t cr3 = 0, eip = 0, eflags = 0;
  std::uint32_t gpr[8] = {};
  std::uint16_t segments[kSegCount] = {}, ldt = 0;
  bool trap = false;
};

class Switch {
 public:
  Switch(Cpu& cpu, const Found& tss, std::uint16_t selector, SwitchReason reason)
      : cpu_(cpu), found_(tss), selector_(selector), reason_(reason),
        wide_((tss.d.type() & 8) != 0) {}
  void run(const std::uint32_t* error);

 private:
  bool nests() const { return reason_ == SwitchReason::kCall || reason_ == SwitchReason::kGate; }
  std::uint32_t load(std::uint64_t at, unsigned bytes) const;
  void store(std::uint64_t at, unsigned bytes, std::uint32_t value) const;
  TaskImage read_image() const;
  void probe_old() const;
  void save_old() const;
  void mark_busy();
  void load_registers(const TaskImage& image);
  void load_ldt(std::uint16_t selector);
  void load_code(std::uint16_t selector);
  void load_segments(const TaskImage& image);
  void load_data(unsigned which, std::uint16_t selector);
  void push_error(std::uint32_t error);
  [[noreturn]] void trap();

  Cpu& cpu_;
  const Found& found_;
  const std::uint16_t selector_;
  const SwitchReason reason_;
  const bool wide_;
};

std::uint32_t Switch::load(std::uint64_t at, unsigned bytes) const {
  at &= 0xffff'ffff;
  return bytes == 4 ? cpu_.read_system<std::uint32_t>(at) : cpu_.read_system<std::uint16_t>(at);
}

void Switch::store(std::uint64_t at, unsigned bytes, std::uint32_t value) const {
  at &= 0xffff'ffff;
  if (bytes == 4)
    cpu_.write_system<std::uint32_t>(at, value);
  else
    cpu_.write_system<std::uint16_t>(at, static_cast<std::uint16_t>(value));
}

TaskImage Switch::read_image() const {
  const Layout& l = layout(wide_);
  const std::uint64_t base = found_.d.base();
  TaskImage image;
  if (wide_) {
    image.cr3 = load(base + l.cr3, 4);
    image.trap = (load(base + l.trap, 2) & 1) != 0;
  }
  image.eip = load(base + l.eip, l.bytes);
  image.eflags = load(base + l.eflags, l.bytes);
  for (unsigned i = 0; i < 8; ++i)
    image.gpr[i] = load(base + l.gpr + i * l.bytes, l.bytes) | (wide_ ? 0 : 0xffff'0000);
  for (unsigned i = 0; i < l.segment_count; ++i)
    image.segments[i] =
        static_cast<std::uint16_t>(load(base + l.segments + i * l.segment_stride, 2));
  image.ldt = static_cast<std::uint16_t>(load(base + l.ldt, 2));
  return image;
}

// The old TSS is written after the last fault that belongs to the old task.
void Switch::probe_old() const {
  const Layout& l = layout((cpu_.tr.access & 8) != 0);
  const std::uint32_t length = l.ldt - l.eip;
  cpu_.pieces(Cpu::kNoSegment, cpu_.tr.base + l.eip, length, AccessKind::kWrite,
              Cpu::Rights::kSystem);
  if (nests())
    cpu_.pieces(Cpu::kNoSegment, found_.d.base(), 2, AccessKind::kWrite, Cpu::Rights::kSystem);
}

void Switch::save_old() const {
  const Layout& l = layout((cpu_.tr.access & 8) != 0);
  const std::uint64_t base = cpu_.tr.base;
  std::uint64_t flags = cpu_.rflags();
  if (reason_ == SwitchReason::kReturn) flags &= ~std::uint64_t{kNt};
  store(base + l.eip, l.bytes, static_cast<std::uint32_t>(cpu_.gpr[kRip]));
  store(base + l.eflags, l.bytes, static_cast<std::uint32_t>(flags));
  for (unsigned i = 0; i < 8; ++i)
    store(base + l.gpr + i * l.bytes, l.bytes, static_cast<std::uint32_t>(cpu_.gpr[i]));
  for (unsigned i = 0; i < l.segment_count; ++i)
    store(base + l.segments + i * l.segment_stride, 2, cpu_.segments[i].selector);
}

// Busy bits and the back link.
void Switch::mark_busy() {
  constexpr std::uint8_t kBusy = 2;
  Found old;
  const bool leaves = reason_ == SwitchReason::kJump || reason_ == SwitchReason::kReturn;
  if (leaves && find_descriptor(cpu_, cpu_.tr.selector, old))
    change_type(cpu_, old.linear, 0, kBusy);
  if (reason_ != SwitchReason::kReturn) change_type(cpu_, found_.linear, kBusy, 0);
  if (nests()) store(found_.d.base(), 2, cpu_.tr.selector);
}

void Switch::load_registers(const TaskImage& image) {
  cpu_.tr = found_.d.segment(selector_);
  cpu_.tr.access |= 2;
  if (wide_ && (cpu_.cr0 & kCr0Pg) != 0) {
    if (!cpu_.set_cr3(image.cr3)) raise_selector(cpu_, Vector::kTs, selector_ & 0xfffcu);
  }
  cpu_.settle_fpu();
  cpu_.cr0 |= kCr0Ts;
  cpu_.dr7 &= ~0x55ull;  // local breakpoints
  std::uint64_t flags = image.eflags;
  if (!wide_) flags &= 0xffff;
  if (nests()) flags |= kNt;
  for (unsigned i = 0; i < 8; ++i) cpu_.gpr[i] = image.gpr[i];
  // Faults from here on belong to the new task: RIP is what they push.
  cpu_.gpr[kRip] = image.eip + std::uint64_t{cpu_.insn->length};
  for (unsigned i = 0; i < kSegCount; ++i) {
    cpu_.segments[i] = null_segment(image.segments[i]);
    if ((flags & kVm) != 0) cpu_.segments[i] = v86_segment(image.segments[i]);
  }
  // CPL is the RPL of CS already while the other segments are looked at.
  const unsigned cpl = (flags & kVm) != 0 ? 3 : image.segments[kCs] & 3u;
  cpu_.segments[kSs].access |= cpl << 5;
  cpu_.set_rflags(flags);
  cpu_.system.keep_resume_flag = true;
  cpu_.mode_changed();
}

void Switch::load_ldt(std::uint16_t selector) {
  cpu_.ldtr = null_segment(selector);
  if (null_selector(selector)) return;
  const std::uint32_t named = selector & 0xfffcu;
  require(cpu_, (selector & 4) == 0, Vector::kTs, named);
  const Found f = need_descriptor(cpu_, selector, Vector::kTs);
  require(cpu_, f.d.system() && f.d.system_type() == SystemType::kLdt, Vector::kTs, named);
  require(cpu_, f.d.present(), Vector::kTs, named);
  cpu_.ldtr = f.d.segment(selector);
}

void Switch::load_code(std::uint16_t selector) {
  const std::uint32_t named = selector & 0xfffcu;
  const unsigned rpl = selector & 3;
  require(cpu_, !null_selector(selector), Vector::kTs, 0);
  Found f = need_descriptor(cpu_, selector, Vector::kTs);
  require(cpu_, f.d.code(), Vector::kTs, named);
  require(cpu_, f.d.conforming() ? f.d.dpl() <= rpl : f.d.dpl() == rpl, Vector::kTs, named);
  require(cpu_, f.d.present(), Vector::kNp, named);
  touch_descriptor(cpu_, f);
  cpu_.segments[kCs] = f.d.segment(selector);
}

void Switch::load_data(unsigned which, std::uint16_t selector) {
  if (null_selector(selector)) return;
  const std::uint32_t named = selector & 0xfffcu;
  Found f = need_descriptor(cpu_, selector, Vector::kTs);
  const bool allowed = f.d.conforming() || ((selector & 3u) <= f.d.dpl() && cpu_.cpl <= f.d.dpl());
  require(cpu_, f.d.readable() && allowed, Vector::kTs, named);
  require(cpu_, f.d.present(), Vector::kNp, named);
  touch_descriptor(cpu_, f);
  cpu_.segments[which] = f.d.segment(selector);
}

void Switch::load_segments(const TaskImage& image) {
  load_ldt(image.ldt);
  if (cpu_.virtual_8086()) return cpu_.mode_changed();
  load_code(image.segments[kCs]);
  const unsigned cpl = image.segments[kCs] & 3u;
  cpu_.segments[kSs] = stack_segment(cpu_, image.segments[kSs], cpl, Vector::kTs);
  cpu_.mode_changed();
  for (const unsigned which : {kEs, kDs, kFs, kGs}) load_data(which, image.segments[which]);
  cpu_.mode_changed();
}

void Switch::push_error(std::uint32_t error) {
  NewStack stack{cpu_, cpu_.segments[kSs], cpu_.gpr[kRsp], cpu_.cpl, false};
  stack.push(error, wide_ ? 4 : 2);
  cpu_.gpr[kRsp] = stack.merged(cpu_.gpr[kRsp]);
}

void Switch::run(const std::uint32_t* error) {
  const std::uint32_t named = selector_ & 0xfffcu;
  require(cpu_, found_.d.limit() >= layout(wide_).minimum_limit, Vector::kTs, named);
  const TaskImage image = read_image();
  probe_old();
  save_old();
  mark_busy();
  load_registers(image);
  load_segments(image);
  if (error != nullptr) push_error(*error);
  require(cpu_, image.eip <= cpu_.segments[kCs].limit, Vector::kGp, 0);
  cpu_.gpr[kRip] = image.eip;
  if (image.trap) trap();
}

// The T flag of the new TSS: #DB before the task's first instruction. The instruction that
// switched is done, so RIP stays.
void Switch::trap() {
  constexpr std::uint64_t kDr6Task = 1u << 15;
  cpu_.dr6 = (cpu_.dr6 & ~0xfull) | kDr6Task;
  cpu_.insn = &Cpu::kBetween;
  cpu_.raise(Vector::kDb);
}

}  // namespace

void task_switch(Cpu& cpu, const Found& tss, std::uint16_t selector, SwitchReason reason,
                 const std::uint32_t* error) {
  if (cpu.overseer != nullptr) [[unlikely]]
    cpu.overseer->before_task_switch(cpu, selector, static_cast<unsigned>(reason));
  Switch{cpu, tss, selector, reason}.run(error);
}

void task_switch_to(Cpu& cpu, std::uint16_t selector, SwitchReason reason,
                    const std::uint32_t* error) {
  const bool returns = reason == SwitchReason::kReturn;
  const Vector vector = returns ? Vector::kTs : Vector::kGp;
  const std::uint32_t named = selector & 0xfffcu;
  require(cpu, (selector & 4) == 0 && !null_selector(selector), vector, named);
  const Found tss = need_descriptor(cpu, selector, vector);
  const SystemType type = tss.d.system_type();
  const bool busy = type == SystemType::kTss16Busy || type == SystemType::kTss32Busy;
  const bool available = type == SystemType::kTss16 || type == SystemType::kTss32;
  require(cpu, tss.d.system() && (returns ? busy : available), vector, named);
  require(cpu, tss.d.present(), Vector::kNp, named);
  task_switch(cpu, tss, selector, reason, error);
}

}  // namespace hv::softcpu
