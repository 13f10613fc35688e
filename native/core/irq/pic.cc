#include "irq/pic.h"

namespace hv {

namespace {

constexpr unsigned kMaster = 0, kSlave = 1;
constexpr unsigned kCascade = 2;
constexpr std::uint8_t kSpurious = 7;

// PIIX3 "Edge/Level Control Registers": IRQ 0, 1, 2, 8 and 13 are edge-triggered always.
constexpr std::array<std::uint8_t, 2> kElcrMask{0xf8, 0xde};

constexpr std::uint8_t bit(unsigned n) { return static_cast<std::uint8_t>(1u << n); }
constexpr std::uint8_t without(std::uint8_t value, unsigned mask) {
  return static_cast<std::uint8_t>(value & ~mask);
}

// ICW1 and OCW2/OCW3, told apart by bits 4 and 3 of a write with A0 = 0.
constexpr std::uint8_t kIcw1 = 0x10, kIcw1Icw4 = 0x01, kIcw1Single = 0x02, kIcw1Level = 0x08;
constexpr std::uint8_t kOcw3 = 0x08, kOcw3Read = 0x02, kOcw3Isr = 0x01, kOcw3Poll = 0x04,
                       kOcw3SetMask = 0x40, kOcw3Mask = 0x20;
constexpr std::uint8_t kIcw4AutoEoi = 0x02, kIcw4SpecialNested = 0x10;

std::uint8_t level_mask(const PicChipState& chip) { return chip.level_mode ? 0xff : chip.elcr; }

// The input of highest priority among `inputs`: -1 where there is none. Rank 0 is the one after
// `lowest`.
int first_by_priority(const PicChipState& chip, std::uint8_t inputs) {
  for (unsigned rank = 0; rank < 8; ++rank) {
    const unsigned input = (chip.lowest + 1u + rank) & 7;
    if ((inputs & bit(input)) != 0) return static_cast<int>(input);
  }
  return -1;
}

unsigned rank_of(const PicChipState& chip, int input) {
  return (static_cast<unsigned>(input) - chip.lowest - 1u) & 7;
}

// The input that asks for service and is not held back by one in service.
int wanted_input(const PicChipState& chip, bool master) {
  if (chip.init_step != 0) return -1;
  const int wanted = first_by_priority(chip, without(chip.irr, chip.imr));
  if (wanted < 0) return -1;
  // "Special Mask Mode": what is in service and masked holds nothing back.
  std::uint8_t holding = chip.special_mask ? without(chip.isr, chip.imr) : chip.isr;
  // "Special Fully Nested Mode": the slave may interrupt again while one of its own is in service.
  const bool nested = chip.special_fully_nested && master && wanted == kCascade;
  if (nested) holding = without(holding, bit(kCascade));
  const int in_service = first_by_priority(chip, holding);
  if (in_service < 0) return wanted;
  return rank_of(chip, wanted) < rank_of(chip, in_service) ? wanted : -1;
}

void end_of_interrupt(PicChipState& chip, int input, bool rotate) {
  if (input < 0) return;
  chip.isr = without(chip.isr, bit(static_cast<unsigned>(input)));
  if (rotate) chip.lowest = static_cast<std::uint8_t>(input);
}

// A non-specific EOI skips what special mask mode hides ("Special Mask Mode").
int highest_in_service(const PicChipState& chip) {
  return first_by_priority(chip, chip.special_mask ? without(chip.isr, chip.imr) : chip.isr);
}

// "Operation Command Word 2 (OCW2)": R, SL, EOI in bits 7:5.
void ocw2(PicChipState& chip, std::uint8_t value) {
  const int input = value & 7;
  switch (value >> 5) {
    case 0: chip.rotate_on_auto_eoi = false; break;
    case 1: end_of_interrupt(chip, highest_in_service(chip), false); break;
    case 2: break;  // no operation
    case 3: end_of_interrupt(chip, input, false); break;
    case 4: chip.rotate_on_auto_eoi = true; break;
    case 5: end_of_interrupt(chip, highest_in_service(chip), true); break;
    case 6: chip.lowest = static_cast<std::uint8_t>(input); break;
    default: end_of_interrupt(chip, input, true); break;
  }
}

void ocw3(PicChipState& chip, std::uint8_t value) {
  if ((value & kOcw3SetMask) != 0) chip.special_mask = (value & kOcw3Mask) != 0;
  if ((value & kOcw3Poll) != 0)
    chip.poll = true;
  else if ((value & kOcw3Read) != 0)
    chip.read_isr = (value & kOcw3Isr) != 0;
}

// "Initialization Command Words 1 and 2": what ICW1 alone resets. The edge-sense circuits are
// reset too, so an input that stays high needs a new edge.
void icw1(PicChipState& chip, std::uint8_t value) {
  chip.imr = 0;
  chip.isr = 0;
  chip.level_mode = (value & kIcw1Level) != 0;
  chip.irr = static_cast<std::uint8_t>(chip.lines & level_mask(chip));
  chip.lowest = 7;
  chip.special_mask = chip.read_isr = chip.poll = false;
  chip.has_icw4 = (value & kIcw1Icw4) != 0;
  chip.single = (value & kIcw1Single) != 0;
  if (!chip.has_icw4) chip.auto_eoi = chip.special_fully_nested = false;
  if (!chip.has_icw4) chip.rotate_on_auto_eoi = false;
  chip.init_step = 2;
}

// ICW2, then ICW3 unless single, then ICW4 if announced.
void icw_next(PicChipState& chip, std::uint8_t value) {
  if (chip.init_step == 2) chip.vector = value & 0xf8;
  if (chip.init_step == 4) {
    chip.auto_eoi = (value & kIcw4AutoEoi) != 0;
    chip.special_fully_nested = (value & kIcw4SpecialNested) != 0;
  }
  if (chip.init_step == 2 && !chip.single)
    chip.init_step = 3;
  else if (chip.init_step != 4 && chip.has_icw4)
    chip.init_step = 4;
  else
    chip.init_step = 0;
}

}  // namespace

void Pic::reset() {
  {
    std::scoped_lock hold(mutex_);
    for (Chip& chip : state_.chips) {
      const std::uint8_t lines = chip.lines;
      chip = Chip{};
      chip.lines = lines;
    }
    update();
  }
  host_.reach_changed();
}

PicState Pic::state() const {
  std::scoped_lock hold(mutex_);
  return state_;
}

void Pic::set_state(const PicState& state) {
  {
    std::scoped_lock hold(mutex_);
    state_ = state;
    for (Chip& chip : state_.chips) {
      chip.lowest &= 7;
      chip.vector &= 0xf8;
      if (chip.init_step == 1 || chip.init_step > 4) chip.init_step = 0;
    }
    update();
  }
  host_.reach_changed();
}

std::uint32_t Pic::read(std::uint16_t port, unsigned size) {
  std::scoped_lock hold(mutex_);
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size && i < 4; ++i)
    value |= std::uint32_t{read_byte(static_cast<std::uint16_t>(port + i))} << (8 * i);
  return value;
}

void Pic::write(std::uint16_t port, unsigned size, std::uint32_t value) {
  bool reach = false;
  {
    std::scoped_lock hold(mutex_);
    const std::uint16_t before = unmasked();
    for (unsigned i = 0; i < size && i < 4; ++i)
      write_byte(static_cast<std::uint16_t>(port + i), static_cast<std::uint8_t>(value >> (8 * i)));
    update();
    reach = unmasked() != before;
  }
  if (reach) host_.reach_changed();
}

std::uint8_t Pic::read_byte(std::uint16_t port) {
  if ((port & ~1u) == 0x4d0) return state_.chips[port & 1].elcr;
  if ((port & ~0x81u) != 0x20) return 0xff;
  Chip& chip = state_.chips[port >= 0xa0 ? kSlave : kMaster];
  if (chip.poll) return poll(chip);
  if ((port & 1) != 0) return chip.imr;
  return chip.read_isr ? chip.isr : chip.irr;
}

void Pic::write_byte(std::uint16_t port, std::uint8_t value) {
  if ((port & ~1u) == 0x4d0) {
    set_elcr(port & 1, value);
    return;
  }
  if ((port & ~0x81u) != 0x20) return;
  Chip& chip = state_.chips[port >= 0xa0 ? kSlave : kMaster];
  if ((port & 1) != 0)
    data(chip, value);
  else
    command(chip, value);
}

void Pic::set_elcr(unsigned which, std::uint8_t value) {
  Chip& chip = state_.chips[which];
  chip.elcr = value & kElcrMask[which];
  // An input that becomes level-triggered asks as long as it is high, and only so long.
  chip.irr = static_cast<std::uint8_t>((chip.irr & ~chip.elcr) | (chip.lines & chip.elcr));
}

void Pic::command(Chip& chip, std::uint8_t value) {
  if ((value & kIcw1) != 0)
    icw1(chip, value);
  else if ((value & kOcw3) != 0)
    ocw3(chip, value);
  else
    ocw2(chip, value);
}

void Pic::data(Chip& chip, std::uint8_t value) {
  if (chip.init_step != 0)
    icw_next(chip, value);
  else
    chip.imr = value;
}

void Pic::set_line(Chip& chip, unsigned input, bool level) {
  const std::uint8_t mask = bit(input);
  const bool was = (chip.lines & mask) != 0;
  chip.lines = level ? static_cast<std::uint8_t>(chip.lines | mask) : without(chip.lines, mask);
  if ((level_mask(chip) & mask) != 0) {
    chip.irr = level ? static_cast<std::uint8_t>(chip.irr | mask) : without(chip.irr, mask);
  } else if (level && !was) {
    chip.irr |= mask;
  } else if (!level) {
    // "Edge triggered": the request must stay until INTA; a low input withdraws it.
    chip.irr = without(chip.irr, mask);
  }
}

void Pic::set_input(unsigned irq, bool level) {
  if (irq >= 16 || irq == kCascade) return;
  std::scoped_lock hold(mutex_);
  set_line(state_.chips[irq >> 3], irq & 7, level);
  update();
}

void Pic::set_trigger(unsigned irq, bool level) {
  if (irq >= 16) return;
  std::scoped_lock hold(mutex_);
  const std::uint8_t elcr = state_.chips[irq >> 3].elcr;
  const std::uint8_t mask = bit(irq & 7);
  set_elcr(irq >> 3, level ? static_cast<std::uint8_t>(elcr | mask) : without(elcr, mask));
  update();
}

// One INTA (or poll) of one chip: the input served, with its in-service bit set.
std::uint8_t Pic::take(Chip& chip) {
  const int wanted = wanted_input(chip, &chip == &state_.chips[kMaster]);
  if (wanted < 0) return kSpurious;
  const auto input = static_cast<unsigned>(wanted);
  // An edge is used up; a level goes on asking, and so does the cascade, which follows the slave.
  if ((level_mask(chip) & bit(input)) == 0) chip.irr = without(chip.irr, bit(input));
  if (!chip.auto_eoi)
    chip.isr |= bit(input);
  else if (chip.rotate_on_auto_eoi)
    chip.lowest = static_cast<std::uint8_t>(input);
  return static_cast<std::uint8_t>(input);
}

// "Poll Command": the next read is the INTA: bit 7 set with the input, or 0.
std::uint8_t Pic::poll(Chip& chip) {
  chip.poll = false;
  if (wanted_input(chip, &chip == &state_.chips[kMaster]) < 0) return 0;
  const std::uint8_t input = take(chip);
  update();
  return static_cast<std::uint8_t>(0x80 | input);
}

std::uint8_t Pic::acknowledge() {
  std::scoped_lock hold(mutex_);
  Chip& master = state_.chips[kMaster];
  Chip& slave = state_.chips[kSlave];
  const std::uint8_t input = take(master);
  const bool from_slave = input == kCascade && !master.single;
  const auto vector = from_slave ? static_cast<std::uint8_t>(slave.vector | take(slave))
                                 : static_cast<std::uint8_t>(master.vector | input);
  update();
  return vector;
}

bool Pic::output() const {
  std::scoped_lock hold(mutex_);
  return output_;
}

void Pic::update() {
  Chip& master = state_.chips[kMaster];
  const Chip& slave = state_.chips[kSlave];
  // The slave's INT is a line like any other; after each INTA it falls and rises again where more
  // waits, so that the master's edge input sees the next one.
  const bool slave_wants = wanted_input(slave, false) >= 0;
  if (slave_wants && (master.irr & bit(kCascade)) == 0) set_line(master, kCascade, false);
  set_line(master, kCascade, slave_wants);

  const std::uint8_t through = (master.imr & bit(kCascade)) != 0 ? 0xff : slave.imr;
  unmasked_.store(static_cast<std::uint16_t>(~(master.imr | through << 8)),
                  std::memory_order_release);
  level_.store(static_cast<std::uint16_t>(level_mask(master) | level_mask(slave) << 8),
               std::memory_order_release);

  const bool output = wanted_input(master, true) >= 0;
  if (output == output_) return;
  output_ = output;
  host_.pic_output(output);
}

}  // namespace hv
