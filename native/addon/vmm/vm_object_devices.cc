// What devices use of a VM: ranges of the bus, interrupt lines, timers.
#include "../arguments.h"
#include "vm_object.h"

namespace hv::addon {
namespace {

constexpr std::uint64_t kSafe = (1ull << 53) - 1;
// at, length, read, write, clears' mask, clears' line or -1, latch's mask, configuration's base, what
// a doorbell rings or -1
constexpr unsigned kWaysFields = 9;
constexpr double kWord = 4294967295.0;

}  // namespace

bool VmObject::read_ways(Napi::Array flat, std::vector<RegisterWays>& ways) {
  if (flat.Length() % kWaysFields != 0) return false;
  for (std::uint32_t i = 0; i < flat.Length(); i += kWaysFields) {
    std::array<double, kWaysFields> field;
    for (std::uint32_t n = 0; n < kWaysFields; ++n) {
      const Napi::Value value = flat.Get(i + n);
      if (!value.IsNumber()) return false;
      field[n] = value.As<Napi::Number>().DoubleValue();
      if (!(field[n] >= (n == 5 || n == 8 ? -1 : 0) && field[n] <= kWord)) return false;
    }
    if (field[2] > static_cast<double>(ReadWay::kOnes)) return false;
    if (field[3] > static_cast<double>(WriteWay::kLatch)) return false;
    if (field[5] >= static_cast<double>(lines_.size())) return false;
    RegisterWays& entry = ways.emplace_back();
    entry.at = static_cast<std::uint32_t>(field[0]);
    entry.length = static_cast<std::uint32_t>(field[1]);
    entry.read = static_cast<ReadWay>(field[2]);
    entry.write = static_cast<WriteWay>(field[3]);
    entry.clear_mask = static_cast<std::uint32_t>(field[4]);
    entry.line = field[5] < 0 ? nullptr : &lines_[static_cast<std::size_t>(field[5])];
    entry.latch_mask = static_cast<std::uint32_t>(field[6]);
    entry.configuration = static_cast<std::uint64_t>(field[7]);
    if (field[8] >= 0) entry.rings = static_cast<std::uint32_t>(field[8]);
  }
  return true;
}

Napi::Value VmObject::map_range(const Info& info) {
  Arguments args{info};
  RangeSpec spec;
  spec.name = args.text(0, "name");
  spec.space = args.word(1, "space", 1) == 0 ? Space::kPorts : Space::kMemory;
  spec.base = args.integer(2, "base", kSafe);
  spec.length = args.integer(3, "length", kSafe);
  const Napi::Array flat = args.array(4, "ways");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  if (!read_ways(flat, spec.ways))
    return args.fail("ways", "rows of nine numbers"), info.Env().Undefined();
  Range* range = nullptr;
  const std::string wrong = vm_->bus().map().add(std::move(spec), range);
  if (!wrong.empty()) {
    Napi::RangeError::New(info.Env(), wrong).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const Napi::Array out = Napi::Array::New(info.Env(), 2);
  out.Set(0u, range->id);
  out.Set(1u, external(info.Env(), range->block->base(), range->block->size(), range->block));
  return out;
}

void VmObject::move_range(const Info& info) {
  Arguments args{info};
  const std::uint32_t id = args.word(0, "id");
  const std::uint64_t base = args.integer(1, "base", kSafe);
  if (!args.ok() || !alive(info)) return;
  const std::string wrong = vm_->bus().map().move(id, base);
  if (!wrong.empty()) Napi::RangeError::New(info.Env(), wrong).ThrowAsJavaScriptException();
}

void VmObject::enable_range(const Info& info) {
  Arguments args{info};
  const std::uint32_t id = args.word(0, "id");
  const bool on = args.flag(1, "on");
  if (!args.ok() || !alive(info)) return;
  const std::string wrong = vm_->bus().map().enable(id, on);
  if (!wrong.empty()) Napi::RangeError::New(info.Env(), wrong).ThrowAsJavaScriptException();
}

void VmObject::remove_range(const Info& info) {
  Arguments args{info};
  const std::uint32_t id = args.word(0, "id");
  if (!args.ok() || !alive(info)) return;
  const std::string wrong = vm_->bus().map().remove(id);
  if (!wrong.empty()) Napi::RangeError::New(info.Env(), wrong).ThrowAsJavaScriptException();
}

void VmObject::answer(const Info& info) {
  Arguments args{info};
  const VcpuIndex vcpu = args.word(0, "vcpu", kMaxVcpus);
  const std::uint32_t value = args.word(1, "value");
  if (!args.ok() || !alive(info)) return;
  if (vcpu < vm_->config().cpus) vm_->bus().channel().answer(vcpu, value);
}

void VmObject::unblock(const Info& info) {
  Arguments args{info};
  const VcpuIndex vcpu = args.word(0, "vcpu", kMaxVcpus);
  if (!args.ok() || !alive(info)) return;
  if (vcpu < vm_->config().cpus) vm_->bus().channel().unblock(vcpu);
}

Napi::Value VmObject::outstanding(const Info& info) {
  if (!alive(info)) return info.Env().Undefined();
  vm_->bus().collect();
  return Napi::Boolean::New(info.Env(), vm_->bus().channel().outstanding());
}

// A number that no other device has on any wire that this line reaches. ISA IRQ 0 is also
// IO-APIC pin 2.
IrqSource VmObject::take_source(Line::Kind kind, unsigned number) {
  const unsigned also = kind == Line::Kind::kIsa && number == 0 ? 2 : number;
  const IrqSource source = std::max(next_source_[number], next_source_[also]);
  next_source_[number] = next_source_[also] = static_cast<IrqSource>(source + 1);
  return source;
}

Napi::Value VmObject::line(const Info& info) {
  Arguments args{info};
  const auto kind = static_cast<Line::Kind>(1 + args.word(0, "kind", 2));
  const std::uint32_t most = kind == Line::Kind::kIoApic ? kIoApicPins - 1 : 15;
  const std::uint32_t number = args.word(1, "number", most);
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  const IrqSource source = take_source(kind, number);
  if (source >= kIrqSources) {
    refuse(info, "interrupt " + std::to_string(number) + " has no room for another device");
    return info.Env().Undefined();
  }
  lines_.emplace_back(Line{vm_->board().fabric, kind, number, source});
  return Napi::Number::New(info.Env(), static_cast<double>(lines_.size() - 1));
}

void VmObject::set_line(const Info& info) {
  Arguments args{info};
  const std::uint32_t id = args.word(0, "line");
  const bool level = args.flag(1, "level");
  if (!args.ok() || !alive(info)) return;
  if (id >= lines_.size()) return refuse(info, "there is no such interrupt line");
  lines_[id].set(level);
}

void VmObject::set_trigger(const Info& info) {
  Arguments args{info};
  const std::uint32_t irq = args.word(0, "irq", 15);
  const bool level = args.flag(1, "level");
  if (args.ok() && alive(info)) vm_->board().fabric.pic().set_trigger(irq, level);
}

Napi::Value VmObject::msi(const Info& info) {
  Arguments args{info};
  const std::uint64_t address = args.integer(0, "address", kSafe);
  const std::uint32_t data = args.word(1, "data");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), vm_->board().fabric.msi(address, data));
}

void VmObject::nmi(const Info& info) {
  if (alive(info)) vm_->nmi();
}

void VmObject::set_a20(const Info& info) {
  Arguments args{info};
  const bool open = args.flag(0, "open");
  if (args.ok() && alive(info)) vm_->set_a20(open);
}

// --- time -----------------------------------------------------------------------------------------

Napi::Value VmObject::now(const Info& info) {
  if (!alive(info)) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), vm_->board().clock.now());
}

Napi::Value VmObject::timer(const Info& info) {
  if (!alive(info)) return info.Env().Undefined();
  const auto id = static_cast<std::uint32_t>(timers_.size());
  timers_.emplace_back(vm_->board().timers, [pump = pump_.get(), id](std::uint64_t generation) {
    pump->notice({VmEvent::kTimer, id, generation});
  });
  return Napi::Number::New(info.Env(), id);
}

Napi::Value VmObject::arm_timer(const Info& info) {
  Arguments args{info};
  const std::uint32_t id = args.word(0, "timer");
  const GuestNs at = args.time(1, "at");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  if (id >= timers_.size()) return args.fail("timer", "a timer"), info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(timers_[id].arm(at)));
}

void VmObject::cancel_timer(const Info& info) {
  Arguments args{info};
  const std::uint32_t id = args.word(0, "timer");
  if (!args.ok() || !alive(info)) return;
  if (id < timers_.size()) timers_[id].cancel();
}

}  // namespace hv::addon
