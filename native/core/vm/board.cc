#include "vm/board.h"

#include <initializer_list>

#include "base/state.h"

namespace hv {
namespace {

// IA32_APIC_BASE: SDM Vol. 3, "Local APIC Status and Location" and "x2APIC Enable".
constexpr std::uint32_t kApicBaseMsr = 0x1b;
constexpr std::uint64_t kApicX2apic = 1u << 10;

// A chip's read and write as a range; `F` and `G` are small callables.
template <class Read, class Write>
class ChipRange final : public NativeRange {
 public:
  ChipRange(Read read, Write write) : read_{read}, write_{write} {}
  std::uint64_t read(VcpuIndex vcpu, std::uint64_t offset, unsigned size) override {
    return read_(vcpu, offset, size);
  }
  void write(VcpuIndex vcpu, std::uint64_t offset, unsigned size, std::uint64_t value) override {
    write_(vcpu, offset, size, value);
  }

 private:
  Read read_;
  Write write_;
};

template <class Read, class Write>
std::unique_ptr<NativeRange> chip_range(Read read, Write write) {
  return std::make_unique<ChipRange<Read, Write>>(read, write);
}

// A chip that is told the port itself, as the 8259 pair, the 8254 and the RTC are.
template <class Chip>
std::unique_ptr<NativeRange> port_range(Chip& chip, std::uint16_t base) {
  return chip_range(
      [&chip, base](VcpuIndex, std::uint64_t offset, unsigned size) -> std::uint64_t {
        return chip.read(static_cast<std::uint16_t>(base + offset), size);
      },
      [&chip, base](VcpuIndex, std::uint64_t offset, unsigned size, std::uint64_t value) {
        chip.write(static_cast<std::uint16_t>(base + offset), size,
                   static_cast<std::uint32_t>(value));
      });
}

// An EOI to the 8259 pair of a level-triggered input must find its line as the vCPU's posted
// writes leave it, as one to a local APIC does.
std::unique_ptr<NativeRange> pic_range(Pic& pic, Bus& bus, std::uint16_t base) {
  return chip_range(
      [&pic, base](VcpuIndex, std::uint64_t offset, unsigned size) -> std::uint64_t {
        return pic.read(static_cast<std::uint16_t>(base + offset), size);
      },
      [&pic, &bus, base](VcpuIndex vcpu, std::uint64_t offset, unsigned size, std::uint64_t value) {
        if (pic.level_inputs() != 0) bus.channel().drain(vcpu);
        pic.write(static_cast<std::uint16_t>(base + offset), size,
                  static_cast<std::uint32_t>(value));
      });
}

template <class Chip>
std::unique_ptr<NativeRange> memory_range(Chip& chip) {
  return chip_range(
      [&chip](VcpuIndex, std::uint64_t offset, unsigned size) -> std::uint64_t {
        return chip.read(offset, size);
      },
      [&chip](VcpuIndex, std::uint64_t offset, unsigned size, std::uint64_t value) {
        chip.write(offset, size, value);
      });
}

}  // namespace

Board::Board(const BoardConfig& config, std::span<VcpuSignals* const> signals, Bus& bus)
    : fabric{timers, signals},
      pit{fabric, timers},
      hpet{fabric, timers},
      rtc{fabric, timers,
          RtcConfig{config.memory_below_4g, config.memory_above_4g, !config.rtc_utc}},
      config_{config} {
  fabric.on_level_eoi([&bus](VcpuIndex vcpu) { bus.channel().drain(vcpu); });
  map_chips(bus);
  reset();
}

Board::~Board() = default;

void Board::map_chips(Bus& bus) {
  const auto map = [&](const char* name, Space space, std::uint64_t base, std::uint64_t length,
                       std::unique_ptr<NativeRange> chip) {
    Range* added = nullptr;
    RangeSpec spec{name, space, base, length, {}, chip.get(), true};
    bus.map().add(std::move(spec), added);  // the bus is empty: it has room for all of these
    ranges_.push_back(std::move(chip));
  };
  const auto ports = [&](const char* name, std::uint16_t base, std::uint16_t length, auto& chip) {
    map(name, Space::kPorts, base, length, port_range(chip, base));
  };
  // The AT's ports; ELCR: Intel PIIX3/4 data sheets.
  for (const auto base : std::initializer_list<std::uint16_t>{0x20, 0xa0, 0x4d0})
    map("pic", Space::kPorts, base, 2, pic_range(fabric.pic(), bus, base));
  ports("pit", 0x40, 4, pit);
  ports("pit", 0x61, 1, pit);
  ports("rtc", 0x70, 2, rtc);
  map("pmtimer", Space::kPorts, PmTimer::kPort, 4,
      chip_range(
          [this](VcpuIndex, std::uint64_t offset, unsigned size) -> std::uint64_t {
            return pm_timer.read(static_cast<std::uint32_t>(offset), size);
          },
          [](VcpuIndex, std::uint64_t, unsigned, std::uint64_t) {}));
  map("ioapic", Space::kMemory, IoApic::kAddress, IoApic::kLength, memory_range(fabric.ioapic()));
  map("hpet", Space::kMemory, Hpet::kAddress, Hpet::kLength, memory_range(hpet));
}

void Board::reset() {
  fabric.reset();
  pit.reset();
  hpet.reset();
  rtc.reset();
  if (config_.x2apic) start_in_x2apic();
}

void Board::start_in_x2apic() {
  for (VcpuIndex i = 0; i < fabric.lapic_count(); ++i) {
    Lapic& lapic = fabric.lapic(i);
    lapic.write_msr(kApicBaseMsr, lapic.read_msr(kApicBaseMsr).value_or(0) | kApicX2apic);
  }
}

namespace {

// One row a component: how it is named, saved, and read back.
struct Loader {
  const json::Value& components;
  std::string& error;
  std::vector<std::function<void()>> apply = {};

  template <class State, class Set>
  void read(const std::string& name, Set set) {
    if (!error.empty()) return;
    const json::Value* const saved = components.find(name);
    if (saved == nullptr) {
      error = name + ": the component is missing";
      return;
    }
    State state{};
    if (const std::string wrong = state::restore(*saved, state); !wrong.empty()) {
      error = name + ": " + wrong;
      return;
    }
    apply.push_back([state, set] { set(state); });
  }
};

}  // namespace

void Board::save(json::Object& out) {
  out["clock"] = state::save(clock.state());
  out["wires"] = state::save(fabric.state());
  out["pic"] = state::save(fabric.pic().state());
  out["ioapic"] = state::save(fabric.ioapic().state());
  out["pit"] = state::save(pit.state());
  out["hpet"] = state::save(hpet.state());
  out["rtc"] = state::save(rtc.state());
  for (VcpuIndex i = 0; i < fabric.lapic_count(); ++i)
    out["lapic" + std::to_string(i)] = state::save(fabric.lapic(i).state());
}


std::function<void()> Board::prepare(const json::Value& components, std::string& error) {
  Loader loader{components, error};
  // The clock first: the others arm their timers by it.
  loader.read<GuestClockState>("clock", [this](const auto& s) { (void)clock.set_state(s); });
  loader.read<WiresState>("wires", [this](const auto& s) { fabric.set_state(s); });
  loader.read<PicState>("pic", [this](const auto& s) { fabric.pic().set_state(s); });
  loader.read<IoApicState>("ioapic", [this](const auto& s) { fabric.ioapic().set_state(s); });
  loader.read<PitState>("pit", [this](const auto& s) { pit.set_state(s); });
  loader.read<HpetState>("hpet", [this](const auto& s) { hpet.set_state(s); });
  loader.read<RtcState>("rtc", [this](const auto& s) { rtc.set_state(s); });
  for (VcpuIndex i = 0; i < fabric.lapic_count(); ++i)
    loader.read<LapicState>("lapic" + std::to_string(i),
                            [this, i](const auto& s) { fabric.lapic(i).set_state(s); });
  if (!error.empty()) return {};
  return [apply = std::move(loader.apply)] {
    for (const auto& step : apply) step();
  };
}

}  // namespace hv
