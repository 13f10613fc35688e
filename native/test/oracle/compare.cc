#include "compare.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace oracle {
namespace {

using namespace hv::softcpu;

std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* text, ...) {
  char line[256];
  va_list arguments;
  va_start(arguments, text);
  std::vsnprintf(line, sizeof line, text, arguments);
  va_end(arguments);
  return line;
}

const char* const kNames[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

class Differences {
 public:
  void number(const char* what, std::uint64_t native, std::uint64_t guest) {
    if (native != guest)
      text_ += format("    %s: host %#llx, ours %#llx\n", what,
                      static_cast<unsigned long long>(native),
                      static_cast<unsigned long long>(guest));
  }
  void raw(const std::string& line) { text_ += line; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

// A user-mode access to a kernel address: Linux always reports a protection violation, so that
// nobody can probe which kernel pages exist (arch/x86/mm/fault.c).
std::uint64_t error_mask(const Outcome& native) {
  const bool hidden = native.vector == 14 && native.fault_address >> 63 != 0;
  return hidden ? ~1ull : ~0ull;
}

void compare_fpu(Differences& out, const Registers& native, const Registers& guest) {
  out.number("x87 control", native.control, guest.control);
  out.number("x87 status", native.status, guest.status);
  out.number("x87 tags", native.tags, guest.tags);
  for (unsigned i = 0; i < 8; ++i) {
    out.number(format("st%u significand", i).c_str(), native.st[i].significand,
               guest.st[i].significand);
    out.number(format("st%u exponent", i).c_str(), native.st[i].sign_exponent,
               guest.st[i].sign_exponent);
  }
  out.number("mxcsr", native.mxcsr, guest.mxcsr);
  for (unsigned i = 0; i < 16; ++i)
    for (unsigned half = 0; half < 2; ++half)
      out.number(format("xmm%u[%u]", i, half).c_str(), native.xmm[i].qword[half],
                 guest.xmm[i].qword[half]);
}

// x87 environments in memory hold FOP, FIP, FDP and selectors, which processors keep with
// different care (SDM Vol. 1, "x87 FPU Instruction and Data (Operand) Pointers").
bool stores_environment(const Row* row) {
  return row != nullptr && (row->name.find("stenv") != row->name.npos ||
                            row->name.find("save") != row->name.npos);
}
// Which of its bytes a long operand touches first is the implementation's choice, and so is CR2.
bool long_operand(const Row* row) {
  return stores_environment(row) ||
         (row != nullptr && (row->name.find("ldenv") != row->name.npos ||
                             row->name.find("rstor") != row->name.npos));
}

void compare_data(Differences& out, const Outcome& native, const Outcome& guest) {
  if (std::memcmp(native.data.data(), guest.data.data(), kDataSize) == 0) return;
  unsigned shown = 0;
  for (unsigned at = 0; at < kDataSize && shown < 8; ++at) {
    if (native.data[at] == guest.data[at]) continue;
    out.raw(format("    data+%#x: host %02x, ours %02x\n", at, native.data[at], guest.data[at]));
    ++shown;
  }
}

}  // namespace

std::string compare(const Generated& given, const Outcome& native, const Outcome& guest,
                    bool undefined_too) {
  Differences out;
  const Row* row = given.decoded.row;
  const std::uint64_t undefined = row == nullptr || undefined_too ? 0 : row->undefined;
  out.number("vector", native.vector, guest.vector);
  if (native.vector != guest.vector) return out.take();
  out.number("error code", native.error & error_mask(native), guest.error & error_mask(native));
  if (native.vector == 14 && !long_operand(row)) out.number("CR2", native.fault_address, guest.fault_address);
  out.number("rip", native.registers.rip, guest.registers.rip);
  const bool wide = given.test.mode == CodeSize::k64;
  for (unsigned i = 0; i < (wide ? 16 : 8); ++i)
    out.number(kNames[i], native.registers.gpr[i], guest.registers.gpr[i]);
  out.number("rflags", native.registers.rflags & ~undefined, guest.registers.rflags & ~undefined);
  compare_fpu(out, native.registers, guest.registers);
  if (stores_environment(row)) return out.take();
  compare_data(out, native, guest);
  out.number("code written (hash)", native.code, guest.code);
  return out.take();
}

std::string describe(const Generated& given) {
  static const char* const kModes[] = {"16-bit", "32-bit", "64-bit"};
  const Row* row = given.decoded.row;
  std::string text = format("seed %#llx, %s, %s:",
                            static_cast<unsigned long long>(given.test.seed),
                            kModes[static_cast<unsigned>(given.test.mode)],
                            row == nullptr ? "(invalid)" : std::string{row->name}.c_str());
  for (unsigned i = 0; i < given.test.length; ++i) text += format(" %02x", given.test.bytes[i]);
  text += "\n   ";
  const unsigned count = given.test.mode == CodeSize::k64 ? 16 : 8;
  for (unsigned i = 0; i < count; ++i)
    text += format(" %s=%llx", kNames[i],
                   static_cast<unsigned long long>(given.test.registers.gpr[i]));
  text += format(" flags=%llx fcw=%x fsw=%x tags=%x mxcsr=%x\n",
                 static_cast<unsigned long long>(given.test.registers.rflags),
                 given.test.registers.control, given.test.registers.status,
                 given.test.registers.tags, given.test.registers.mxcsr);
  return text;
}

}  // namespace oracle
