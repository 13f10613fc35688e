#include "softcpu/opcodes.h"

#include <algorithm>
#include <vector>

#include "softcpu/rows_integer.h"
#include "softcpu/rows_simd.h"
#include "softcpu/rows_system.h"
#include "softcpu/rows_x87.h"

namespace hv::softcpu {

namespace {

constexpr std::size_t kMaps = 4;

// How particular a row is; the order in which the decoder tries them.
unsigned rank(const Row& row) {
  return (row.modrm != kAnyModrm ? 8u : 0u) | (row.prefix != Prefix::kNone ? 4u : 0u) |
         (row.digit != kAnyDigit ? 2u : 0u) |
         (row.form == Form::kMemory || row.form == Form::kRegister ? 1u : 0u);
}

using Index = std::array<std::vector<const Row*>, kMaps * 256>;

Index build_index() {
  Index index;
  for (std::size_t f = 0; f < kFamilies; ++f)
    for (const Row& row : rows(static_cast<Family>(f)))
      index[static_cast<std::size_t>(row.map) * 256 + row.opcode].push_back(&row);
  for (auto& list : index)
    std::stable_sort(list.begin(), list.end(),
                     [](const Row* a, const Row* b) { return rank(*a) > rank(*b); });
  return index;
}

bool overlap(const Row& a, const Row& b) {
  const auto form_excludes = [&](Form one, Form other) {
    return (a.form == one && b.form == other) || (a.form == other && b.form == one);
  };
  const auto mode_excludes = [](const Row& one, const Row& other) {
    return (one.traits & kNot64) != 0 && (other.traits & kOnly64) != 0;
  };
  if (a.prefix != b.prefix || a.vex != b.vex) return false;
  if (form_excludes(Form::kMemory, Form::kRegister)) return false;
  if (mode_excludes(a, b) || mode_excludes(b, a)) return false;
  return a.digit == b.digit && a.modrm == b.modrm;
}

}  // namespace

std::span<const Row> rows(Family family) {
  switch (family) {
    case Family::kInteger: return kIntegerRows;
    case Family::kSystem: return kSystemRows;
    case Family::kX87: return kX87Rows;
    case Family::kSimd: return kSimdRows;
  }
  return {};
}

std::span<const Row* const> candidates(Map map, std::uint8_t opcode) {
  static const Index index = build_index();
  return index[static_cast<std::size_t>(map) * 256 + opcode];
}

std::string conflicts() {
  std::string found;
  for (std::size_t map = 0; map < kMaps; ++map) {
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
      const auto list = candidates(static_cast<Map>(map), static_cast<std::uint8_t>(opcode));
      for (std::size_t i = 0; i < list.size(); ++i)
        for (std::size_t j = i + 1; j < list.size(); ++j)
          if (rank(*list[i]) == rank(*list[j]) && overlap(*list[i], *list[j]))
            found += std::string{list[i]->name} + " and " + std::string{list[j]->name} +
                     " (map " + std::to_string(map) + ", opcode " + std::to_string(opcode) + ")\n";
    }
  }
  return found;
}

}  // namespace hv::softcpu
