// Encodings of SDM Vol. 2 with the lengths, sizes and operands that they have, in three modes.
#include "softcpu/decoder.h"

#include <initializer_list>
#include <string>
#include <vector>

#include "accel/cpu_state.h"
#include "base/test.h"
#include "softcpu/opcodes.h"

namespace hv::softcpu {

namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr CodeSize k16Bit = CodeSize::k16, k32Bit = CodeSize::k32, k64Bit = CodeSize::k64;
constexpr unsigned kNone = kNoRegister;

Decoded decode_all(const Bytes& bytes, CodeSize size) { return decode(bytes, size); }

std::string hex(const Bytes& bytes) {
  std::string text;
  char two[4];
  for (const std::uint8_t byte : bytes) {
    std::snprintf(two, sizeof two, "%02x ", byte);
    text += two;
  }
  return text;
}

struct Wanted {
  CodeSize mode;
  Bytes bytes;  // all of them are the instruction
  const char* name;
  unsigned size;
};

void check(const Wanted& wanted) {
  const Decoded got = decode_all(wanted.bytes, wanted.mode);
  const std::string what = hex(wanted.bytes) + wanted.name;
  if (got.status != DecodeStatus::kOk) {
    hv::test::fail(__FILE__, __LINE__, what + ": not decoded, status " +
                                           std::to_string(static_cast<int>(got.status)));
    return;
  }
  if (got.insn.length != wanted.bytes.size() || got.insn.size != wanted.size ||
      got.row->name != wanted.name)
    hv::test::fail(__FILE__, __LINE__,
                   what + ": length " + std::to_string(got.insn.length) + ", size " +
                       std::to_string(got.insn.size) + ", name " + std::string{got.row->name});
  // One byte less is not enough, and more bytes change nothing.
  Bytes shorter = wanted.bytes, longer = wanted.bytes;
  shorter.pop_back();
  longer.push_back(0xcc);
  EXPECT(decode_all(shorter, wanted.mode).status != DecodeStatus::kOk ||
         decode_all(shorter, wanted.mode).insn.length < wanted.bytes.size());
  EXPECT_EQ(decode_all(longer, wanted.mode).insn.length, got.insn.length);
}

struct Memory {
  CodeSize mode;
  Bytes bytes;  // MOV r, r/m
  unsigned base, index, scale, address, segment;
  std::int32_t disp;
};

void check(const Memory& wanted) {
  const Decoded got = decode_all(wanted.bytes, wanted.mode);
  const Insn& i = got.insn;
  const bool right = got.status == DecodeStatus::kOk && i.length == wanted.bytes.size() &&
                     i.memory == 1 && i.base == wanted.base && i.index == wanted.index &&
                     i.scale == wanted.scale && i.address == wanted.address &&
                     i.segment == wanted.segment && i.disp == wanted.disp;
  if (!right)
    hv::test::fail(__FILE__, __LINE__,
                   hex(wanted.bytes) + ": base " + std::to_string(i.base) + " index " +
                       std::to_string(i.index) + " scale " + std::to_string(i.scale) +
                       " address " + std::to_string(i.address) + " segment " +
                       std::to_string(i.segment) + " disp " + std::to_string(i.disp) +
                       " length " + std::to_string(i.length));
}

DecodeStatus status(CodeSize mode, const Bytes& bytes) { return decode_all(bytes, mode).status; }

}  // namespace

TEST(no_two_rows_claim_one_encoding) { EXPECT_EQ(conflicts(), std::string{}); }

TEST(lengths_and_sizes) {
  const Wanted all[] = {
      {k32Bit, {0x00, 0xc8}, "add", k8},
      {k32Bit, {0x01, 0xc8}, "add", k32},
      {k16Bit, {0x01, 0xc8}, "add", k16},
      {k64Bit, {0x01, 0xc8}, "add", k32},
      {k64Bit, {0x48, 0x01, 0xc8}, "add", k64},
      {k64Bit, {0x66, 0x01, 0xc8}, "add", k16},
      {k64Bit, {0x66, 0x48, 0x01, 0xc8}, "add", k64},
      {k64Bit, {0x48, 0x66, 0x01, 0xc8}, "add", k16},  // the REX does not stand before the opcode
      {k16Bit, {0x66, 0x01, 0xc8}, "add", k32},
      {k32Bit, {0x66, 0x01, 0xc8}, "add", k16},
      {k64Bit, {0x48, 0x05, 1, 2, 3, 4}, "add", k64},
      {k64Bit, {0x66, 0x05, 1, 2}, "add", k16},
      {k64Bit, {0x04, 1}, "add", k8},
      {k16Bit, {0x05, 1, 2}, "add", k16},
      {k64Bit, {0x80, 0x38, 1}, "cmp", k8},
      {k64Bit, {0x81, 0xf8, 1, 2, 3, 4}, "cmp", k32},
      {k64Bit, {0x66, 0x81, 0xf8, 1, 2}, "cmp", k16},
      {k64Bit, {0x48, 0x83, 0xf8, 0xff}, "cmp", k64},
      {k32Bit, {0x82, 0xf8, 1}, "cmp", k8},
      {k32Bit, {0x40}, "inc", k32},
      {k32Bit, {0x4f}, "dec", k32},
      {k64Bit, {0x50}, "push", k64},
      {k64Bit, {0x66, 0x50}, "push", k16},
      {k64Bit, {0x41, 0x57}, "push", k64},
      {k32Bit, {0x50}, "push", k32},
      {k64Bit, {0x68, 1, 2, 3, 4}, "push", k64},
      {k64Bit, {0x66, 0x68, 1, 2}, "push", k16},
      {k64Bit, {0x6a, 0x80}, "push", k64},
      {k32Bit, {0x60}, "pusha", k32},
      {k32Bit, {0x62, 0x00}, "bound", k32},
      {k64Bit, {0x63, 0xc8}, "movsxd", k32},
      {k64Bit, {0x48, 0x63, 0xc8}, "movsxd", k64},
      {k64Bit, {0x69, 0xc0, 1, 2, 3, 4}, "imul", k32},
      {k64Bit, {0x66, 0x69, 0xc0, 1, 2}, "imul", k16},
      {k64Bit, {0x6b, 0x44, 0x24, 8, 3}, "imul", k32},
      {k64Bit, {0x74, 0xfe}, "jz", k64},
      {k32Bit, {0x74, 0xfe}, "jz", k32},
      {k64Bit, {0x0f, 0x85, 1, 2, 3, 4}, "jnz", k64},
      {k64Bit, {0x66, 0x0f, 0x85, 1, 2, 3, 4}, "jnz", k64},  // near branches: 64 bits, always
      {k16Bit, {0x0f, 0x85, 1, 2}, "jnz", k16},
      {k16Bit, {0x66, 0x0f, 0x85, 1, 2, 3, 4}, "jnz", k32},
      {k64Bit, {0xe8, 1, 2, 3, 4}, "call", k64},
      {k32Bit, {0x66, 0xe8, 1, 2}, "call", k16},
      {k64Bit, {0xc2, 8, 0}, "ret", k64},
      {k64Bit, {0xc3}, "ret", k64},
      {k64Bit, {0xf3, 0xc3}, "ret", k64},
      {k64Bit, {0xff, 0xe0}, "jmp", k64},
      {k64Bit, {0xff, 0x24, 0xc5, 0, 0, 0, 0x80}, "jmp", k64},
      {k64Bit, {0xff, 0x15, 1, 2, 3, 4}, "call", k64},
      {k64Bit, {0xff, 0x75, 0x10}, "push", k64},
      {k64Bit, {0x8f, 0x45, 0x10}, "pop", k64},
      {k64Bit, {0xb0, 0x12}, "mov", k8},
      {k64Bit, {0xb8, 1, 2, 3, 4}, "mov", k32},
      {k64Bit, {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, "mov", k64},
      {k64Bit, {0x66, 0xb8, 1, 2}, "mov", k16},
      {k64Bit, {0xa0, 1, 2, 3, 4, 5, 6, 7, 8}, "mov", k8},
      {k64Bit, {0x67, 0xa1, 1, 2, 3, 4}, "mov", k32},
      {k64Bit, {0x48, 0xa3, 1, 2, 3, 4, 5, 6, 7, 8}, "mov", k64},
      {k32Bit, {0xa1, 1, 2, 3, 4}, "mov", k32},
      {k32Bit, {0x67, 0xa1, 1, 2}, "mov", k32},
      {k16Bit, {0xa1, 1, 2}, "mov", k16},
      {k16Bit, {0x67, 0xa1, 1, 2, 3, 4}, "mov", k16},
      {k64Bit, {0xc6, 0x00, 1}, "mov", k8},
      {k64Bit, {0x48, 0xc7, 0xc0, 1, 2, 3, 4}, "mov", k64},
      {k64Bit, {0xc7, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7, 8}, "mov", k32},
      {k64Bit, {0xc8, 1, 2, 3}, "enter", k64},
      {k64Bit, {0xc9}, "leave", k64},
      {k64Bit, {0xc1, 0xe0, 4}, "shl", k32},
      {k64Bit, {0x48, 0xd1, 0xe8}, "shr", k64},
      {k64Bit, {0xd2, 0xf8}, "sar", k8},
      {k64Bit, {0xc0, 0xf0, 1}, "shl", k8},
      {k32Bit, {0xd4, 0x0a}, "aam", k32},
      {k64Bit, {0xe3, 0x10}, "jcxz", k64},
      {k64Bit, {0x67, 0xe3, 0x10}, "jcxz", k64},
      {k64Bit, {0xf6, 0x00, 1}, "test", k8},
      {k64Bit, {0xf7, 0xc8, 1, 2, 3, 4}, "test", k32},
      {k64Bit, {0xf7, 0xd8}, "neg", k32},
      {k64Bit, {0x48, 0xf7, 0xf1}, "div", k64},
      {k64Bit, {0xfe, 0xc4}, "inc", k8},
      {k64Bit, {0xf3, 0x48, 0xa5}, "movs", k64},
      {k64Bit, {0xf2, 0xae}, "scas", k8},
      {k64Bit, {0x66, 0xab}, "stos", k16},
      {k64Bit, {0x90}, "xchg", k32},
      {k64Bit, {0xf3, 0x90}, "pause", k32},
      {k64Bit, {0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0}, "nop", k32},
      {k64Bit, {0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}, "nop", k16},
      {k64Bit, {0xf3, 0x0f, 0x1e, 0xfa}, "nop", k32},
      {k64Bit, {0x0f, 0x18, 0x08}, "prefetch", k32},
      {k64Bit, {0x0f, 0x0d, 0x09}, "prefetchw", k32},
      {k64Bit, {0x0f, 0x0b}, "ud2", k32},
      {k64Bit, {0x0f, 0xb9, 0xc0}, "ud1", k32},
      {k64Bit, {0x0f, 0xff, 0x40, 1}, "ud0", k32},
      {k64Bit, {0x0f, 0xb6, 0xc0}, "movzx", k32},
      {k64Bit, {0x48, 0x0f, 0xbf, 0xc0}, "movsx", k64},
      {k64Bit, {0x0f, 0x94, 0xc0}, "setz", k8},
      {k64Bit, {0x48, 0x0f, 0x44, 0xc8}, "cmovz", k64},
      {k64Bit, {0x0f, 0xa4, 0xc8, 3}, "shld", k32},
      {k64Bit, {0x48, 0x0f, 0xa3, 0xc8}, "bt", k64},
      {k64Bit, {0x0f, 0xba, 0xe0, 3}, "bt", k32},
      {k64Bit, {0xf0, 0x0f, 0xba, 0x28, 3}, "bts", k32},
      {k64Bit, {0x0f, 0xbc, 0xc1}, "bsf", k32},
      {k64Bit, {0xf3, 0x0f, 0xb8, 0xc1}, "popcnt", k32},
      {k64Bit, {0x66, 0xf3, 0x0f, 0xb8, 0xc1}, "popcnt", k16},
      {k64Bit, {0xf2, 0x0f, 0x38, 0xf0, 0xc1}, "crc32", k8},
      {k64Bit, {0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1}, "crc32", k64},
      {k64Bit, {0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc1}, "crc32", k16},
      {k64Bit, {0x0f, 0x38, 0xf0, 0x01}, "movbe", k32},
      {k64Bit, {0x0f, 0xae, 0xe8}, "lfence", k32},
      {k64Bit, {0x0f, 0xae, 0xf0}, "mfence", k32},
      {k64Bit, {0x0f, 0xae, 0xf8}, "sfence", k32},
      {k64Bit, {0x0f, 0xae, 0x38}, "clflush", k32},
      {k64Bit, {0x0f, 0xc3, 0x08}, "movnti", k32},
      {k64Bit, {0xf0, 0x48, 0x0f, 0xc7, 0x0e}, "cmpxchg8b", k64},
      {k64Bit, {0x41, 0x0f, 0xc8}, "bswap", k32},
      {k64Bit, {0xf0, 0x0f, 0xc1, 0x03}, "xadd", k32},
      {k64Bit, {0xf0, 0x48, 0x0f, 0xb1, 0x0b}, "cmpxchg", k64},
      {k64Bit, {0xd7}, "xlat", k8},
      {k32Bit, {0xd6}, "salc", k8},
  };
  for (const Wanted& wanted : all) check(wanted);
}

TEST(addressing) {
  const Memory all[] = {
      // SDM Vol. 2, "32-Bit Addressing Forms with the ModR/M Byte" and "… with the SIB Byte".
      {k64Bit, {0x8b, 0x00}, 0, kNone, 0, k64, kDs, 0},
      {k64Bit, {0x8b, 0x40, 0x80}, 0, kNone, 0, k64, kDs, -128},
      {k64Bit, {0x8b, 0x80, 0xff, 0xff, 0xff, 0xff}, 0, kNone, 0, k64, kDs, -1},
      {k64Bit, {0x8b, 0x05, 4, 3, 2, 1}, kRip, kNone, 0, k64, kDs, 0x01020304},
      {k64Bit, {0x67, 0x8b, 0x05, 4, 3, 2, 1}, kRip, kNone, 0, k32, kDs, 0x01020304},
      {k32Bit, {0x8b, 0x05, 4, 3, 2, 1}, kNone, kNone, 0, k32, kDs, 0x01020304},
      {k64Bit, {0x41, 0x8b, 0x45, 0x00}, 13, kNone, 0, k64, kDs, 0},
      {k64Bit, {0x8b, 0x45, 0x08}, 5, kNone, 0, k64, kSs, 8},
      {k64Bit, {0x8b, 0x04, 0x24}, 4, kNone, 0, k64, kSs, 0},
      {k64Bit, {0x41, 0x8b, 0x04, 0x24}, 12, kNone, 0, k64, kDs, 0},
      {k64Bit, {0x8b, 0x04, 0x25, 1, 0, 0, 0}, kNone, kNone, 0, k64, kDs, 1},
      {k64Bit, {0x8b, 0x04, 0xc8}, 0, 1, 3, k64, kDs, 0},
      {k64Bit, {0x8b, 0x04, 0x8d, 0x10, 0, 0, 0}, kNone, 1, 2, k64, kDs, 0x10},
      {k64Bit, {0x8b, 0x44, 0x8d, 0x10}, 5, 1, 2, k64, kSs, 0x10},
      {k64Bit, {0x42, 0x8b, 0x04, 0x20}, 0, 12, 0, k64, kDs, 0},
      {k64Bit, {0x43, 0x8b, 0x44, 0x6d, 0x01}, 13, 13, 1, k64, kDs, 1},
      {k64Bit, {0x41, 0x8b, 0x05, 1, 0, 0, 0}, kRip, kNone, 0, k64, kDs, 1},
      {k64Bit, {0x41, 0x8b, 0x04, 0x25, 1, 0, 0, 0}, kNone, kNone, 0, k64, kDs, 1},
      {k64Bit, {0x64, 0x8b, 0x00}, 0, kNone, 0, k64, kFs, 0},
      {k64Bit, {0x65, 0x8b, 0x04, 0x25, 0, 0, 0, 0}, kNone, kNone, 0, k64, kGs, 0},
      {k64Bit, {0x2e, 0x8b, 0x00}, 0, kNone, 0, k64, kDs, 0},
      {k64Bit, {0x3e, 0x8b, 0x45, 0x00}, 5, kNone, 0, k64, kSs, 0},
      {k64Bit, {0x65, 0x3e, 0x8b, 0x45, 0x00}, 5, kNone, 0, k64, kGs, 0},
      {k32Bit, {0x2e, 0x8b, 0x00}, 0, kNone, 0, k32, kCs, 0},
      {k32Bit, {0x3e, 0x8b, 0x45, 0x00}, 5, kNone, 0, k32, kDs, 0},
      {k32Bit, {0x26, 0x36, 0x8b, 0x00}, 0, kNone, 0, k32, kSs, 0},
      {k32Bit, {0x26, 0x8b, 0x00}, 0, kNone, 0, k32, kEs, 0},
      // "16-Bit Addressing Forms with the ModR/M Byte".
      {k16Bit, {0x8b, 0x00}, 3, 6, 0, k16, kDs, 0},
      {k16Bit, {0x8b, 0x01}, 3, 7, 0, k16, kDs, 0},
      {k16Bit, {0x8b, 0x02}, 5, 6, 0, k16, kSs, 0},
      {k16Bit, {0x8b, 0x03}, 5, 7, 0, k16, kSs, 0},
      {k16Bit, {0x8b, 0x04}, 6, kNone, 0, k16, kDs, 0},
      {k16Bit, {0x8b, 0x05}, 7, kNone, 0, k16, kDs, 0},
      {k16Bit, {0x8b, 0x06, 0x34, 0x12}, kNone, kNone, 0, k16, kDs, 0x1234},
      {k16Bit, {0x8b, 0x07}, 3, kNone, 0, k16, kDs, 0},
      {k16Bit, {0x8b, 0x46, 0xfe}, 5, kNone, 0, k16, kSs, -2},
      {k16Bit, {0x8b, 0x86, 0x00, 0x80}, 5, kNone, 0, k16, kSs, -32768},
      {k16Bit, {0x67, 0x8b, 0x04, 0x24}, 4, kNone, 0, k32, kSs, 0},
      {k32Bit, {0x67, 0x8b, 0x46, 0x02}, 5, kNone, 0, k16, kSs, 2},
      {k64Bit, {0x67, 0x8b, 0x40, 0x02}, 0, kNone, 0, k32, kDs, 2},
  };
  for (const Memory& wanted : all) check(wanted);
}

TEST(register_numbers) {
  const auto rm = [](const Bytes& bytes) { return decode_all(bytes, k64Bit).insn.rm; };
  const auto reg = [](const Bytes& bytes) { return decode_all(bytes, k64Bit).insn.reg; };
  EXPECT_EQ(rm({0x88, 0xc4}), kAh);
  EXPECT_EQ(rm({0x88, 0xc7}), kBh);
  EXPECT_EQ(rm({0x40, 0x88, 0xc4}), 4);  // SPL: any REX turns the high bytes away
  EXPECT_EQ(reg({0x88, 0xe8}), kCh);
  EXPECT_EQ(reg({0x40, 0x88, 0xe8}), 5);
  EXPECT_EQ(rm({0x89, 0xc4}), 4);
  EXPECT_EQ(rm({0x41, 0x89, 0xc4}), 12);
  EXPECT_EQ(reg({0x44, 0x89, 0xc4}), 8);
  EXPECT_EQ(reg({0xb4, 0x01}), kAh);
  EXPECT_EQ(reg({0x41, 0xb4, 0x01}), 12);
  EXPECT_EQ(reg({0x41, 0x57}), 15);
  EXPECT_EQ(reg({0x0f, 0xb6, 0xec}), 5);  // MOVZX EBP, AH
  EXPECT_EQ(rm({0x0f, 0xb6, 0xec}), kAh);
  EXPECT_EQ(rm({0x0f, 0x94, 0xc4}), kAh);
}

TEST(immediates) {
  const auto imm = [](const Bytes& bytes, CodeSize mode = k64Bit) {
    return decode_all(bytes, mode).insn.imm;
  };
  EXPECT_EQ(imm({0x83, 0xc0, 0x80}), 0xffff'ffff'ffff'ff80);
  EXPECT_EQ(imm({0x80, 0xc0, 0x80}), 0x80u);
  EXPECT_EQ(imm({0x48, 0x81, 0xc0, 0, 0, 0, 0x80}), 0xffff'ffff'8000'0000);
  EXPECT_EQ(imm({0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 0x88}), 0x8807'0605'0403'0201);
  EXPECT_EQ(imm({0xeb, 0xfe}), ~1ull);
  EXPECT_EQ(imm({0xe9, 0xfb, 0xff, 0xff, 0xff}), ~4ull);
  EXPECT_EQ(imm({0xe9, 0x00, 0x80}, k16Bit), 0xffff'ffff'ffff'8000);
  EXPECT_EQ(imm({0xc2, 0xff, 0xff}), 0xffffu);
  EXPECT_EQ(imm({0xd1, 0xe0}), 1u);
  const Insn enter = decode_all({0xc8, 0x34, 0x12, 0x05}, k64Bit).insn;
  EXPECT_EQ(enter.imm, 0x1234u);
  EXPECT_EQ(enter.imm2, 5);
  EXPECT_EQ(imm({0xa0, 1, 2, 3, 4, 5, 6, 7, 0xff}), 0xff07'0605'0403'0201);
}

TEST(repetition_and_lock) {
  EXPECT_EQ(decode_all({0xf3, 0xa4}, k64Bit).insn.repeat, 1);
  EXPECT_EQ(decode_all({0xf2, 0xa6}, k64Bit).insn.repeat, 2);
  EXPECT_EQ(decode_all({0xf2, 0xf3, 0xa6}, k64Bit).insn.repeat, 1);  // the last one counts
  EXPECT_EQ(decode_all({0xf3, 0x01, 0xc0}, k64Bit).insn.repeat, 0);
  EXPECT_EQ(decode_all({0xf0, 0x01, 0x00}, k64Bit).insn.lock, 1);
  EXPECT_EQ(status(k64Bit, {0xf0, 0x87, 0x00}), DecodeStatus::kOk);
  // SDM Vol. 2, "LOCK": #UD for a register destination and for every other instruction.
  const Bytes illegal[] = {{0xf0, 0x01, 0xc0}, {0xf0, 0x03, 0x00},       {0xf0, 0x39, 0x00},
                           {0xf0, 0x90},       {0xf0, 0x8b, 0x00},       {0xf0, 0xd1, 0x20},
                           {0xf0, 0xeb, 0x00}, {0xf0, 0x0f, 0xa3, 0x00}, {0xf0, 0xff, 0x30},
                           {0xf0, 0xa4},       {0xf0, 0x0f, 0xba, 0xe8, 1}};
  for (const Bytes& bytes : illegal) EXPECT_EQ(status(k64Bit, bytes), DecodeStatus::kInvalid);
}

TEST(what_is_no_instruction) {
  const Bytes in64[] = {{0x06},       {0x27},       {0x37},       {0x60},
                        {0x62, 0x00}, {0x82, 0xc0, 1}, {0x9a},    {0xc4, 0x00},
                        {0xc5, 0x00}, {0xd4, 0x0a}, {0xd6},       {0xea},
                        {0xce},       {0xc4, 0xe2, 0x78, 0xf2, 0xc0}, {0x8f, 0xc8},
                        {0xc6, 0xc8, 0}, {0xc7, 0xf8, 0, 0, 0, 0},  {0xfe, 0xd0},
                        {0xff, 0xf8}, {0x8d, 0xc0}, {0x0f, 0xc7, 0xc8}, {0x0f, 0x04},
                        {0x0f, 0xb8, 0xc0}, {0x0f, 0x38, 0xf0, 0xc0}, {0x0f, 0x0f, 0xc0},
                        {0xf1, 0x0f}};
  for (const Bytes& bytes : in64)
    if (bytes[0] != 0xf1) EXPECT_EQ(status(k64Bit, bytes), DecodeStatus::kInvalid);
  EXPECT_EQ(status(k32Bit, {0x62, 0xc0}), DecodeStatus::kInvalid);
  EXPECT_EQ(status(k32Bit, {0xc5, 0xf8, 0x77}), DecodeStatus::kInvalid);  // VZEROUPPER
  EXPECT_EQ(status(k32Bit, {0x0f, 0xc3, 0xc0}), DecodeStatus::kInvalid);
  EXPECT_EQ(status(k64Bit, {0x66, 0x0f, 0xc3, 0x00}), DecodeStatus::kInvalid);
}

// SDM Vol. 3, "#GP": "exceeding the instruction length limit of 15 bytes".
TEST(no_instruction_is_longer_than_15_bytes) {
  Bytes longest(14, 0x66);
  longest.push_back(0x90);
  EXPECT_EQ(status(k64Bit, longest), DecodeStatus::kOk);
  EXPECT_EQ(decode_all(longest, k64Bit).insn.length, 15);
  for (const std::uint8_t prefix : Bytes{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3}) {
    Bytes flood(15, prefix);
    for (const CodeSize mode : {k16Bit, k32Bit, k64Bit}) {
      EXPECT_EQ(status(mode, flood), DecodeStatus::kTooLong);
      Bytes more = flood;
      more.push_back(0x90);
      EXPECT_EQ(status(mode, more), DecodeStatus::kTooLong);
      Bytes less(14, prefix);
      EXPECT_EQ(status(mode, less), DecodeStatus::kNeedMore);
    }
  }
  EXPECT_EQ(status(k64Bit, Bytes(15, 0x48)), DecodeStatus::kTooLong);
  // 10 prefixes and MOV [RSP + disp32], imm32 would be 21 bytes.
  Bytes mov(10, 0x2e);
  for (const std::uint8_t byte : Bytes{0xc7, 0x84, 0x24, 0, 0, 0, 0, 0, 0, 0, 0}) mov.push_back(byte);
  EXPECT_EQ(status(k64Bit, mov), DecodeStatus::kTooLong);
  // With four it is exactly 15.
  mov.erase(mov.begin(), mov.begin() + 6);
  EXPECT_EQ(status(k64Bit, mov), DecodeStatus::kOk);
  EXPECT_EQ(status(k64Bit, {}), DecodeStatus::kNeedMore);
}

// Whatever the bytes, the decoder answers, and never claims bytes that it was not given.
TEST(random_bytes) {
  std::uint64_t seed = 0x1234'5678'9abc'def1;
  Bytes bytes(16);
  for (int round = 0; round < 300'000; ++round) {
    for (std::uint8_t& byte : bytes) {
      seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
      byte = static_cast<std::uint8_t>(seed >> 32);
    }
    const std::size_t given = seed % 17;
    const auto mode = static_cast<CodeSize>(seed >> 40 & 1 ? 2 : seed >> 41 & 1);
    const Decoded got = decode({bytes.data(), given}, mode);
    EXPECT(got.insn.length <= given && got.insn.length <= 15);
    EXPECT_EQ(got.status == DecodeStatus::kOk, got.row != nullptr);
    if (got.status != DecodeStatus::kOk) continue;
    EXPECT(got.insn.base <= kRip && got.insn.index <= kNoRegister);
    EXPECT(got.insn.reg <= kBh && got.insn.rm <= kBh && got.insn.segment < kSegCount);
  }
}

}  // namespace hv::softcpu

TEST_MAIN()
