// The pair of 8259A interrupt controllers of a PC: an array of one chip. The slave's INT is the
// master's input 2.
//
// Intel 8259A data sheet (order number 231468), "Programming the 8259A"; ELCR: Intel PIIX3/4 data
// sheets, "Edge/Level Control Registers".
//
// Locks: one mutex over the pair. PicHost is called under it (order: irq/interrupt_fabric.h),
// reach_changed() excepted.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace hv {

class PicHost {
 public:
  virtual ~PicHost() = default;
  // The master's INT output, at each change.
  virtual void pic_output(bool level) = 0;
  // The set of unmasked inputs changed; called without a lock.
  virtual void reach_changed() = 0;
};

struct PicChipState {
  std::uint8_t irr = 0, isr = 0, imr = 0xff;
  std::uint8_t lines = 0;  // the inputs' levels
  std::uint8_t elcr = 0;   // inputs that are level-triggered
  std::uint8_t vector = 0;
  std::uint8_t lowest = 7;    // the input of lowest priority: rotation moves it
  std::uint8_t init_step = 0; // the ICW that is expected next; 0: initialised
  bool has_icw4 = false, single = false, level_mode = false;
  bool auto_eoi = false, rotate_on_auto_eoi = false;
  bool special_mask = false, special_fully_nested = false;
  bool read_isr = false, poll = false;

  template <class Visit>
  void fields(Visit&& visit) {
    visit("irr", irr);
    visit("isr", isr);
    visit("imr", imr);
    visit("lines", lines);
    visit("elcr", elcr);
    visit("vector", vector);
    visit("lowest", lowest);
    visit("initStep", init_step);
    visit("hasIcw4", has_icw4);
    visit("single", single);
    visit("levelMode", level_mode);
    visit("autoEoi", auto_eoi);
    visit("rotateOnAutoEoi", rotate_on_auto_eoi);
    visit("specialMask", special_mask);
    visit("specialFullyNested", special_fully_nested);
    visit("readIsr", read_isr);
    visit("poll", poll);
  }
};

struct PicState {
  static constexpr std::string_view kName = "pic";
  static constexpr std::uint32_t kVersion = 1;
  std::array<PicChipState, 2> chips{};
  template <class Visit>
  void fields(Visit&& visit) {
    visit("chips", chips);
  }
};

class Pic {
 public:
  explicit Pic(PicHost& host) : host_{host} {}

  void reset();
  PicState state() const;
  void set_state(const PicState& state);

  // Ports 0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1. A wide access is one of each byte in turn; ports
  // that are not the pair's read as ones.
  std::uint32_t read(std::uint16_t port, unsigned size);
  void write(std::uint16_t port, unsigned size, std::uint32_t value);

  // Input 0 to 15 (2 is the cascade and stays as it is).
  void set_input(unsigned irq, bool level);
  // The ELCR's bit of one input, as firmware sets it before boot; inputs that are edge-triggered
  // always stay so.
  void set_trigger(unsigned irq, bool level);
  // INTA: the vector; a spurious one (input 7) where the request has gone. True INT or not.
  std::uint8_t acknowledge();
  bool output() const;

  // Inputs whose interrupt could reach INT, a bit each. Any thread, no lock.
  std::uint16_t unmasked() const noexcept { return unmasked_.load(std::memory_order_acquire); }
  // Inputs that the ELCR makes level-triggered: an EOI must find their lines up to date.
  std::uint16_t level_inputs() const noexcept { return level_.load(std::memory_order_acquire); }

 private:
  using Chip = PicChipState;

  std::uint8_t read_byte(std::uint16_t port);
  void write_byte(std::uint16_t port, std::uint8_t value);
  void command(Chip& chip, std::uint8_t value);
  void data(Chip& chip, std::uint8_t value);
  void set_line(Chip& chip, unsigned input, bool level);
  void set_elcr(unsigned chip, std::uint8_t value);
  std::uint8_t take(Chip& chip);
  std::uint8_t poll(Chip& chip);
  // Recomputes the cascade and INT from state; the one place that does.
  void update();

  PicHost& host_;
  mutable std::mutex mutex_;
  PicState state_;
  bool output_ = false;
  std::atomic<std::uint16_t> unmasked_{0};
  std::atomic<std::uint16_t> level_{0};
};

}  // namespace hv
