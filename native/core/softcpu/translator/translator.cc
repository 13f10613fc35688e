#include "softcpu/translator/translator.h"

#if HV_TRANSLATOR
#include <unordered_map>
#include <utility>

#include "softcpu/block_cache.h"
#include "softcpu/cpu.h"
#include "softcpu/translator/block_translator.h"

namespace hv::softcpu {

using namespace translator;

struct Translator::Parts {
  Parts(Cpu& owner, const TranslatorOptions& chosen)
      : cpu(owner), options(chosen), cache(chosen.code_bytes) {}

  void reset();
  // How much is made of it: a whole trace, with groups of accesses.
  struct Shape {
    bool traced = true, grouped = true;
  };
  Translation* translate(Block& block, std::uint64_t rip, Shape shape);
  void redirect(Translation& old, const Translation& to);
  void give_up_groups(Translation& translation);
  Translation* renew(Translation& old);
  void link(Translation& to);
  void unlink(Translation& translation);
  void refresh_links(Translation& translation);

  Cpu& cpu;
  const TranslatorOptions options;
  CodeCache cache;
  Stubs stubs;
  std::uint8_t* first = nullptr;  // behind the stubs
  std::deque<Translation> translations;
  std::deque<Site> sites;
  std::deque<Link> links;
  Trace trace;
  std::vector<BlockTranslator::Cold> cold;
  AccessPlan plan;
  unsigned next_guess = 0;  // of State::guesses
  std::uint64_t drops = 0;  // of the block cache, when all this was made
  Link* left_by = nullptr;  // how the last run left: to be linked with what comes next
  // The last run left where a group lay across two pages. What comes next would do the same all too
  // often, and straight code be translated from each of its instructions on; so it gets no groups.
  bool after_split = false;
  bool full = false;
};

Translator::Translator(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Translator::~Translator() = default;

std::unique_ptr<Translator> Translator::create(Cpu& cpu, const TranslatorOptions& options) {
  if (!options.enabled) return nullptr;
  auto parts = std::make_unique<Parts>(cpu, options);
  if (!parts->cache.usable()) return nullptr;
  parts->stubs.build(parts->cache, cpu);
  parts->first = parts->cache.next();
  parts->drops = cpu.blocks->drops();
  const std::uint8_t* const leaves = parts->cache.executable(parts->stubs.leave_at_rip);
  cpu.blocks->set_code_of_others(leaves);
  cpu.translated.nowhere = leaves;
  cpu.translated.jumps = cpu.blocks->jump_table().jumps;
  cpu.translated.forget_returns();
  return std::unique_ptr<Translator>(new Translator(std::move(parts)));
}

bool Translator::full() const { return parts_->full; }
std::size_t Translator::code_bytes() const { return parts_->cache.used(); }

// The blocks are gone, and with them all that code and sites were made from.
void Translator::Parts::reset() {
  cache.take(first);
  translations.clear();
  cpu.translated.forget_returns();
  sites.clear();
  links.clear();
  left_by = nullptr;
  full = false;
  drops = cpu.blocks->drops();
}

Translation* Translator::Parts::translate(Block& block, std::uint64_t rip, Shape shape) {
  Shared shared{cpu, cache, stubs, sites, links, next_guess, options.off};
  trace.form(*cpu.blocks, block, rip, options.off,
             !(shape.traced && options.traces));
  Translation& made = translations.emplace_back();
  made.block = &block;
  made.rip = rip;
  made.live_version = block.version;
  made.others = trace.others;
  Assembler out{cache.next(), cache.end()};
  out.align(16);
  cold.clear();
  BlockTranslator work{shared, out, block, trace, made, cold};
  if (!work.run(plan, shape.grouped && options.groups)) {
    translations.pop_back();
    full = true;
    return nullptr;
  }
  cache.take(out.here());
  made.next = block.translations;
  block.translations = &made;
  add_count(cpu.count.blocks_translated);
  __atomic_store_n(&cpu.count.code_bytes, cache.used(), __ATOMIC_RELAXED);
  return &made;
}

// A link skips what `entry` looks at, so it lasts for as long as both blocks lie in one page at
// one version.
void Translator::Parts::link(Translation& to) {
  Link* const from = std::exchange(left_by, nullptr);
  if (from == nullptr || from->target != to.rip) return;
  const Translation& source = *from->from;
  if (source.block->page != to.block->page) return;
  if (from->code != nullptr) {
    from->code = cache.executable(to.entry);
    return;
  }
  if (from->place == nullptr || source.live_version != to.live_version) return;
  Assembler::bind({from->place}, from->checks ? to.again : to.body);
  from->linked = true;
}

void Translator::Parts::unlink(Translation& translation) {
  for (Link* link = translation.links; link != nullptr; link = link->next) {
    if (!link->linked) continue;
    Assembler::bind({link->place}, link->unlinked);
    link->linked = false;
  }
}

// The block was compared with its page again since it was translated.
void Translator::Parts::refresh_links(Translation& translation) {
  if (translation.live_version == translation.block->version) return;
  unlink(translation);
  translation.live_version = translation.block->version;
  Assembler::set({translation.version_place}, translation.block->version);
}

// Whoever still goes to the old code comes to the new.
void Translator::Parts::redirect(Translation& old, const Translation& to) {
  unlink(old);
  const std::pair<std::uint8_t*, std::uint8_t*> ways[] = {
      {old.entry, to.entry}, {old.again, to.again}, {old.body, to.body}};
  for (const auto& [from, target] : ways) {
    Assembler out{from, from + 5};
    Assembler::bind(out.jmp(), target);
  }
}

// What soon lies across pages again and again is translated anew, each access by itself.
void Translator::Parts::give_up_groups(Translation& old) {
  constexpr unsigned kTooOften = 64, kSoon = 256;
  const std::uint64_t now = cpu.count.instructions;
  if (now - std::exchange(old.last_split, now) > kSoon) old.split_groups = 0;
  if (++old.split_groups != kTooOften || drops != cpu.blocks->drops()) return;
  if (!old.block->fresh() || old.live_version != old.block->version) return;
  const Translation* const made =
      translate(*old.block, old.rip, {.traced = old.remade == 0, .grouped = false});
  if (made != nullptr) redirect(old, *made);
}

// The page was written since, and not only the first block may have changed: blocks that others
// followed are put together anew, but not for ever.
Translation* Translator::Parts::renew(Translation& old) {
  constexpr unsigned kOftenEnough = 4;
  Translation* const made =
      translate(*old.block, old.rip, {.traced = old.remade < kOftenEnough, .grouped = true});
  if (made == nullptr) return nullptr;
  made->remade = old.remade + 1;
  redirect(old, *made);
  return made;
}

Translation* Translator::find(Block& block, std::uint64_t rip) {
  Parts& p = *parts_;
  if (p.drops != p.cpu.blocks->drops()) p.reset();
  const bool after_split = std::exchange(p.after_split, false);
  Translation* found = block.translations;
  while (found != nullptr && found->rip != rip) found = found->next;
  if (found == nullptr) {
    if (block.heat < p.options.threshold) {
      ++block.heat;
      p.left_by = nullptr;
      return nullptr;
    }
    found = p.translate(block, rip, {.traced = true, .grouped = !after_split});
    if (found == nullptr) return nullptr;
  }
  if (found->live_version != block.version && !found->others.empty()) {
    found = p.renew(*found);
    if (found == nullptr) return nullptr;
  }
  p.refresh_links(*found);
  p.link(*found);
  return found;
}

bool Translator::run(Translation& translation) {
  Parts& p = *parts_;
  Cpu& cpu = p.cpu;
  cpu.blocks->set_code(translation.rip, cpu.translated.jump_tag,
                       p.cache.executable(translation.entry));
  auto* const base = reinterpret_cast<std::uint8_t*>(&cpu.gpr[0]) + kBaseBias;
  const auto left = reinterpret_cast<std::uintptr_t>(
      p.stubs.enter(base, p.cache.executable(translation.entry)));
  cpu.translated.site = nullptr;
  if (left == kLeftForMode) return true;
  if (left == kLeftAtRip) return false;
  if ((left & kLeftForSplit) != 0) {
    p.after_split = true;
    p.give_up_groups(*reinterpret_cast<Translation*>(left - kLeftForSplit));
    return false;
  }
  p.left_by = reinterpret_cast<Link*>(left);
  cpu.gpr[kRip] = p.left_by->target;
  return false;
}

// What must hold between two runs.
std::string Translator::check() const {
  const Parts& p = *parts_;
  if (p.drops != p.cpu.blocks->drops()) return {};  // all of it is dropped before the next use
  std::unordered_multimap<std::uint64_t, const Translation*> by_rip;
  for (const Translation& t : p.translations) by_rip.emplace(t.rip, &t);
  const std::uint8_t* last = p.first;
  for (const Translation& t : p.translations) {
    const std::string where = " at " + std::to_string(t.rip);
    if (t.entry < last || t.again < t.entry || t.body < t.again || t.end <= t.body || t.end > p.cache.next())
      return "code out of place" + where;
    last = t.end;
    bool listed = false;
    for (const Translation* o = t.block->translations; o != nullptr; o = o->next) listed |= o == &t;
    if (!listed) return "not among its block's translations" + where;
    for (const Link* l = t.links; l != nullptr; l = l->next) {
      const Link& link = *l;
      if (link.place == nullptr) {
        if (link.linked) return "linked without a place" + where;
        continue;
      }
      std::int32_t distance;
      std::memcpy(&distance, link.place, 4);
      const std::uint8_t* const to = link.place + 4 + distance;
      if (!link.linked && to != link.unlinked) return "an open link leads elsewhere" + where;
      if (!link.linked) continue;
      bool found = false;
      const auto [begin, end] = by_rip.equal_range(link.target);
      for (auto o = begin; o != end; ++o)
        found |= to == o->second->again || (to == o->second->body && !link.checks);
      if (!found) return "a link leads to no translation of its target" + where;
    }
  }
  return {};
}

}  // namespace hv::softcpu
#endif
