#include "bus/map.h"

#include <algorithm>

namespace hv {
namespace {

constexpr std::size_t kMaxRanges = 0xffff;  // a ring entry has 16 bits for the number
std::size_t index(Space space) { return static_cast<std::size_t>(space); }
std::string no_range(std::uint32_t id) { return "there is no range " + std::to_string(id); }

}  // namespace

BusMap::BusMap() {
  for (auto& table : current_) table.store(new Table, std::memory_order_relaxed);
}

BusMap::~BusMap() {
  for (auto& table : current_) delete table.load(std::memory_order_relaxed);
  for (const Table* table : retired_) delete table;
}

BusMap::Hit BusMap::find(VcpuIndex vcpu, Space space, std::uint64_t at) noexcept {
  auto& hazard = hazards_[vcpu].table;
  const auto& current = current_[index(space)];
  const Table* table;
  // Pairs with publish(): either it sees our hazard, or we see its new table.
  do {
    table = current.load(std::memory_order_seq_cst);
    hazard.store(table, std::memory_order_seq_cst);
  } while (current.load(std::memory_order_seq_cst) != table);

  const auto after = std::upper_bound(table->begin(), table->end(), at,
                                      [](std::uint64_t a, const Row& row) { return a < row.base; });
  Hit hit{nullptr, 0, after == table->end() ? ~at : after->base - at};
  if (after != table->begin() && at < (after - 1)->end) {
    const Row& row = *(after - 1);
    hit = {row.range, at - row.base, row.end - at};
  }
  hazard.store(nullptr, std::memory_order_release);  // our reads of the table are over
  return hit;
}

std::string BusMap::add(RangeSpec spec, Range*& added) {
  if (std::string wrong = check_spec(spec); !wrong.empty()) return wrong;
  std::scoped_lock hold{mutex_};
  if (ranges_.size() >= kMaxRanges) return "the bus has no number left for another range";
  Range candidate_view;
  candidate_view.spec = spec;
  candidate_view.id = static_cast<std::uint32_t>(ranges_.size());
  if (std::string wrong = conflict(candidate_view, spec.base); !wrong.empty()) return wrong;
  std::shared_ptr<RangeBlock> block;
  if (spec.native == nullptr && (block = RangeBlock::create(spec.length)) == nullptr)
    return "the host has no memory for range \"" + spec.name + "\"";
  Range& range = ranges_.emplace_back();
  range.id = candidate_view.id;
  range.spec = std::move(spec);
  range.block = std::move(block);
  publish(range);
  added = &range;
  return {};
}

std::string BusMap::move(std::uint32_t id, std::uint64_t base) {
  std::scoped_lock hold{mutex_};
  Range* const range = live(id);
  if (range == nullptr) return no_range(id);
  RangeSpec moved = range->spec;
  moved.base = base;
  if (std::string wrong = check_spec(moved); !wrong.empty()) return wrong;
  if (range->enabled)
    if (std::string wrong = conflict(*range, base); !wrong.empty()) return wrong;
  range->spec.base = base;
  publish(*range);
  return {};
}

std::string BusMap::enable(std::uint32_t id, bool on) {
  std::scoped_lock hold{mutex_};
  Range* const range = live(id);
  if (range == nullptr) return no_range(id);
  if (on && !range->enabled)
    if (std::string wrong = conflict(*range, range->spec.base); !wrong.empty()) return wrong;
  range->enabled = on;
  publish(*range);
  return {};
}

std::string BusMap::remove(std::uint32_t id) {
  std::scoped_lock hold{mutex_};
  Range* const range = live(id);
  if (range == nullptr) return no_range(id);
  range->removed = true;
  publish(*range);
  return {};
}

Range* BusMap::range(std::uint32_t id) {
  std::scoped_lock hold{mutex_};
  return id < ranges_.size() ? &ranges_[id] : nullptr;
}

std::vector<Range*> BusMap::all() {
  std::scoped_lock hold{mutex_};
  std::vector<Range*> out;
  for (Range& range : ranges_) out.push_back(&range);
  return out;
}

std::string BusMap::conflict(const Range& range, std::uint64_t base) const {
  for (const Range& other : ranges_) {
    if (other.id == range.id || other.removed || !other.enabled) continue;
    if (other.spec.space != range.spec.space) continue;
    if (base < other.spec.base + other.spec.length && other.spec.base < base + range.spec.length)
      return "range \"" + range.spec.name + "\" would overlap \"" + other.spec.name + "\"";
  }
  return {};
}

Range* BusMap::live(std::uint32_t id) {
  if (id >= ranges_.size() || ranges_[id].removed || ranges_[id].spec.fixed) return nullptr;
  return &ranges_[id];
}

void BusMap::publish(Range& range) {
  publish(range.spec.space);
  belfry_.follow(range);
}

void BusMap::publish(Space space) {
  auto* const table = new Table;
  for (Range& range : ranges_) {
    if (range.removed || !range.enabled || range.spec.space != space) continue;
    table->push_back({range.spec.base, range.spec.base + range.spec.length, &range});
  }
  std::sort(table->begin(), table->end(),
            [](const Row& a, const Row& b) { return a.base < b.base; });
  retired_.push_back(current_[index(space)].exchange(table, std::memory_order_seq_cst));
  std::erase_if(retired_, [this](const Table* old) {
    for (const Hazard& hazard : hazards_)
      if (hazard.table.load(std::memory_order_seq_cst) == old) return false;
    delete old;
    return true;
  });
}

}  // namespace hv
