// Paging as the guest sees it: every combination of rights in every paging mode, executed, against
// the tables of SDM Vol. 3, "Determination of Access Rights" and "Page-Fault Exceptions".
#include "softcpu/test_machine.h"

using namespace hv;
using namespace hv::softcpu;

namespace {

enum class Mode { kLegacy, kPae, kLong };
enum class Access { kRead, kWrite, kFetch };

constexpr std::uint64_t kP = 1, kW = 2, kU = 4, kA = 0x20, kD = 0x40, kPs = 0x80, kG = 0x100;
constexpr std::uint64_t kNx = 1ull << 63;
constexpr std::uint64_t kDirectory = 0x4000, kTable = 0x5000, kAliasDirectory = 0x6000;
constexpr std::uint64_t kTarget = 0x30000;      // where the page under test lies
constexpr std::uint64_t kLinear = 0x4000'0000;  // and where it is seen
constexpr std::uint64_t kAlias = 0x8000'0000;   // low memory once more, for the user
constexpr std::uint64_t kCodeAt[] = {0x10000, 0x10100, 0x10200};

struct Rights {
  std::uint64_t directory = kP | kW | kU, page = kP | kW | kU;
  Access access = Access::kRead;
  bool user = false, wp = false, smep = false, smap = false, ac = false, nxe = true;
};

class PagingMachine : public TestMachine {
 public:
  explicit PagingMachine(Mode mode) : mode_(mode) {
    if (mode == Mode::kLong)
      enter_long64();
    else
      enter_flat32();
    put(kCodeAt[0], {0x8a, 0x03, 0xf4});  // mov al,[rbx]; hlt
    put(kCodeAt[1], {0x88, 0x03, 0xf4});  // mov [rbx],al; hlt
    put(kCodeAt[2], {0xff, 0xe3});        // jmp rbx
    put(kTarget, {0xf4});
    build();
    start_ = state();
  }

  std::uint64_t entry_bytes() const { return mode_ == Mode::kLegacy ? 4 : 8; }
  std::uint64_t directory_entry() const {
    return mode_ == Mode::kLegacy ? kPd + 4 * 256 : kDirectory;
  }
  void put_entry(std::uint64_t at, std::uint64_t value) {
    put_number(at, value, static_cast<unsigned>(entry_bytes()));
  }
  std::uint64_t entry(std::uint64_t at) const { return get(at, static_cast<unsigned>(entry_bytes())); }

  // -1: it went through; else the error code of the page fault.
  int attempt(const Rights& r, std::uint64_t linear = kLinear) {
    CpuState s = start_;
    s.gpr[kRbx] = linear;
    s.gpr[kRax] = 0xf4;  // stores keep the page's HLT
    s.rip = kCodeAt[static_cast<int>(r.access)];
    s.cr0 = 0x8000'0031 | (r.wp ? 1u << 16 : 0);
    s.cr4 = 0x10 | (mode_ != Mode::kLegacy ? 0x20 : 0) | 0x80 | (r.smep ? 1u << 20 : 0) |
            (r.smap ? 1u << 21 : 0);
    s.efer = (mode_ == Mode::kLong ? 0x500 : 0) | (r.nxe ? 0x800 : 0);
    s.rflags = 2 | (r.ac ? 1u << 18 : 0);
    if (r.user) to_user(s);
    set(s);
    run_until_halt();
    return outcome(r);
  }

 private:
  void build() {
    if (mode_ == Mode::kLegacy) {
      put32(kPd, kP | kW | kPs);
      put32(kPd + 4 * 512, kP | kW | kU | kPs);
    } else {
      const std::uint64_t flags = mode_ == Mode::kLong ? kP | kW | kU : kP;
      put64(kPml4, kPdpt | kP | kW | kU);
      for (unsigned i = 0; i < 4; ++i) put64(kPdpt + 8 * i, 0);
      put64(kPdpt, kPd | flags);
      put64(kPdpt + 8, kDirectory | flags);
      put64(kPdpt + 16, kAliasDirectory | flags);
      put64(kPd, kP | kW | kPs);
      put64(kPd + 8, 0x20'0000 | kP | kW | kPs);
      put64(kAliasDirectory, kP | kW | kU | kPs);
    }
    change([&](CpuState& s) {
      s.cr3 = mode_ == Mode::kLong ? kPml4 : mode_ == Mode::kPae ? kPdpt : kPd;
      if (mode_ != Mode::kPae) return;
      for (unsigned i = 0; i < 4; ++i) s.pdpte[i] = get64(kPdpt + 8 * i);
    });
  }
  void to_user(CpuState& s) const {
    const bool is64 = mode_ == Mode::kLong;
    s.rip += kAlias;
    s.segments[kCs] = {0, 0xffff'ffff, is64 ? 0xa0fbu : 0xc0fbu, is64 ? kUserCode64 : kUserCode32};
    for (const unsigned i : {kSs, kDs, kEs}) s.segments[i] = {0, 0xffff'ffff, 0xc0f3, kUserData};
  }
  // HLT is privileged: a user that got through ends with #GP(0).
  int outcome(const Rights& r) {
    if (vector() == 14) {
      const CpuState s = state();
      EXPECT_EQ(s.cr2, kLinear);
      return static_cast<int>(error_code());
    }
    EXPECT_EQ(vector(), r.user ? 13 : -1);
    return -1;
  }

  const Mode mode_;
  CpuState start_;
};

int expected(Mode mode, const Rights& r) {
  const bool nx_exists = mode != Mode::kLegacy;
  int kind = r.access == Access::kWrite ? 2 : 0;
  if (r.user) kind |= 4;
  if (r.access == Access::kFetch && (r.smep || (nx_exists && r.nxe))) kind |= 16;
  for (const std::uint64_t e : {r.directory, r.page}) {
    if ((e & kP) == 0) return kind;
    if ((e & kNx) != 0 && !r.nxe) return kind | 9;
  }
  const std::uint64_t both = r.directory & r.page;
  const bool user_page = (both & kU) != 0, writable = (both & kW) != 0;
  const bool nx = ((r.directory | r.page) & kNx) != 0;
  bool ok;
  if (r.user) {
    ok = user_page && (r.access != Access::kWrite || writable) && (r.access != Access::kFetch || !nx);
  } else if (r.access == Access::kFetch) {
    ok = !nx && !(r.smep && user_page);
  } else {
    ok = !(r.smap && !r.ac && user_page) && (r.access == Access::kRead || writable || !r.wp);
  }
  return ok ? -1 : kind | 1;
}

// Both entries' marks after an access: A where the walk went through them, D where it wrote.
void check_marks(PagingMachine& m, const Rights& r, int result) {
  const std::uint64_t page = m.entry(kTable);
  const bool through = result == -1;
  EXPECT_EQ((page & kA) != 0, through);
  EXPECT_EQ((page & kD) != 0, through && r.access == Access::kWrite);
  EXPECT_EQ((m.entry(m.directory_entry()) & kD) != 0, false);
  if (through) EXPECT_EQ((m.entry(m.directory_entry()) & kA) != 0, true);
}

void matrix(Mode mode) {
  PagingMachine m{mode};
  const unsigned bits = mode == Mode::kLegacy ? 3 : 4;
  const auto rights = [](unsigned n) {
    return (n & 1 ? kP : 0) | (n & 2 ? kW : 0) | (n & 4 ? kU : 0) | (n & 8 ? kNx : 0);
  };
  for (unsigned d = 0; d < 1u << bits; ++d)
    for (unsigned p = 0; p < 1u << bits; ++p)
      for (unsigned a = 0; a < 3; ++a)
        for (unsigned how = 0; how < 64; ++how) {
          const bool user = (how & 1) != 0, ac = (how & 8) != 0;
          if (user && ac) continue;
          const Rights r{rights(d), rights(p), static_cast<Access>(a), user, (how & 2) != 0,
                         (how & 4) != 0, (how & 16) != 0, ac, (how & 32) != 0};
          if (mode == Mode::kLegacy && !r.nxe) continue;
          m.put_entry(m.directory_entry(), kTable | r.directory);
          m.put_entry(kTable, kTarget | r.page);
          const int result = m.attempt(r);
          if (!EXPECT_EQ(result, expected(mode, r))) {
            std::fprintf(stderr, "  directory %llx page %llx access %u how %x\n",
                         static_cast<unsigned long long>(r.directory),
                         static_cast<unsigned long long>(r.page), a, how);
            return;
          }
          check_marks(m, r, result);
        }
}

}  // namespace

TEST(rights_32bit) { matrix(Mode::kLegacy); }
TEST(rights_pae) { matrix(Mode::kPae); }
TEST(rights_long) { matrix(Mode::kLong); }

TEST(reserved_bits) {
  PagingMachine m{Mode::kLong};
  const Rights read;
  m.put_entry(m.directory_entry(), kTable | 7);
  m.put_entry(kTable, kTarget | 7 | 1ull << 50);
  EXPECT_EQ(m.attempt(read), 9);
  m.put_entry(kTable, kTarget | 7 | 1ull << 52);  // ignored
  EXPECT_EQ(m.attempt(read), -1);
  m.put_entry(kTable, kTarget | 7);
  m.put_entry(m.directory_entry(), kPs | 1u << 13 | 7);
  EXPECT_EQ(m.attempt(read), 9);
  m.put64(TestMachine::kPml4, TestMachine::kPdpt | 7 | kPs);
  m.put_entry(m.directory_entry(), kTable | 7);
  // Even the handlers cannot be reached now: the page fault becomes a triple fault.
  m.change([](CpuState& s) {
    s.rip = kCodeAt[0];
    s.activity = Activity::kRunning;
  });
  EXPECT_EQ(m.run_until_halt(), Exit::kTripleFault);

  PagingMachine pae{Mode::kPae};
  pae.put_entry(pae.directory_entry(), kTable | 7);
  pae.put_entry(kTable, kTarget | 7 | 1ull << 52);  // not ignored here
  EXPECT_EQ(pae.attempt(read), 9);
  PagingMachine legacy{Mode::kLegacy};
  legacy.put_entry(legacy.directory_entry(), kPs | 7 | 1u << 21);
  EXPECT_EQ(legacy.attempt(read), 9);
}

TEST(large_pages) {
  const Rights write{.access = Access::kWrite};
  PagingMachine m{Mode::kLong};
  m.put_entry(m.directory_entry(), kPs | 7);
  m.change([](CpuState& s) { s.gpr[kRax] = 0; });
  EXPECT_EQ(m.attempt(write), -1);
  EXPECT_EQ(m.entry(m.directory_entry()) & (kA | kD), kA | kD);
  m.put64(TestMachine::kPdpt + 8, kPs | 7);  // 1 GiB
  EXPECT_EQ(m.attempt(write), -1);
  EXPECT_EQ(m.get64(TestMachine::kPdpt + 8) & (kA | kD), kA | kD);
  m.put64(TestMachine::kPdpt + 8, kPs | 7 | 1u << 20);
  EXPECT_EQ(m.attempt(write), 11);
  PagingMachine legacy{Mode::kLegacy};
  legacy.put_entry(legacy.directory_entry(), kPs | 7);
  EXPECT_EQ(legacy.attempt(write), -1);
  EXPECT_EQ(legacy.entry(legacy.directory_entry()) & (kA | kD), kA | kD);
}

// A translation stays until it is invalidated, and then is gone.
TEST(invlpg_and_global_pages) {
  TestMachine m;
  m.enter_long64();
  m.put64(TestMachine::kPdpt + 8, kDirectory | 7);
  m.put64(kDirectory, kTable | 7);
  m.put64(kTable, kTarget | 7 | kG);
  m.put(kTarget, {0x11});
  m.put(kTarget + 0x1000, {0x22});
  const auto prelude = [&] {
    m.put64(kTable, kTarget | 7 | kG);
    m.change([](CpuState& s) {
      s.cr4 |= 0x80;
      s.gpr[kRbx] = kLinear;
      s.gpr[kRsi] = kTable;
      s.gpr[kRdi] = kTarget + 0x1000 + 7 + kG;
    });
  };
  // mov al,[rbx]; mov [rsi],rdi; invlpg [rbx]; mov ah,[rbx]
  prelude();
  EXPECT_EQ(m.execute({0x8a, 0x03, 0x48, 0x89, 0x3e, 0x0f, 0x01, 0x3b, 0x8a, 0x23}).gpr[kRax] & 0xffff,
            0x2211);
  // … mov cr3 keeps a global page
  prelude();
  EXPECT_EQ(m.execute({0x8a, 0x03, 0x48, 0x89, 0x3e, 0x0f, 0x20, 0xd9, 0x0f, 0x22, 0xd9, 0x8a, 0x23})
                    .gpr[kRax] & 0xffff,
            0x1111);
  // … clearing CR4.PGE does not: mov rcx,cr4; and cl,0x7f; mov cr4,rcx
  prelude();
  EXPECT_EQ(m.execute({0x8a, 0x03, 0x48, 0x89, 0x3e, 0x0f, 0x20, 0xe1, 0x80, 0xe1, 0x7f, 0x0f, 0x22, 0xe1,
                       0x8a, 0x23}).gpr[kRax] & 0xffff,
            0x2211);
}

TEST(invlpg_takes_the_whole_of_a_large_page) {
  TestMachine m;
  m.enter_long64();
  m.put64(TestMachine::kPdpt + 8, kDirectory | 7);
  m.put64(kDirectory, 0x20'0000 | 7 | kPs);
  m.put(0x20'5000, {0x11});
  m.put(0x5000, {0x22});
  m.change([](CpuState& s) {
    s.gpr[kRbx] = kLinear + 0x5000;
    s.gpr[kRcx] = kLinear + 0x1f'f000;
    s.gpr[kRsi] = kDirectory;
    s.gpr[kRdi] = 7 + kPs;
  });
  // mov al,[rbx]; mov [rsi],rdi; invlpg [rcx]; mov ah,[rbx]
  EXPECT_EQ(m.execute({0x8a, 0x03, 0x48, 0x89, 0x3e, 0x0f, 0x01, 0x39, 0x8a, 0x23}).gpr[kRax] & 0xffff,
            0x2211);
}

TEST(mov_cr3_loads_and_checks_the_pdptes) {
  PagingMachine m{Mode::kPae};
  EXPECT_EQ(m.state().pdpte[1], kDirectory | kP);
  m.put64(TestMachine::kPdpt + 24, 0x9000 | kP | 4);  // reserved bit 2
  m.change([](CpuState& s) { s.cr0 = 0x8000'0031, s.cr4 = 0x20; });
  m.execute({0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8});  // mov eax,cr3; mov cr3,eax
  EXPECT_EQ(m.vector(), 13);
  EXPECT_EQ(m.state().pdpte[3], 0);
}

TEST(accesses_across_pages_touch_neither_when_the_second_faults) {
  PagingMachine m{Mode::kLong};
  m.put_entry(m.directory_entry(), kTable | 7);
  m.put_entry(kTable, kTarget | 7);
  m.put_entry(kTable + 8, 0);
  m.put64(kTarget + 0xff8, 0x1122334455667788);
  m.change([](CpuState& s) {
    s.cr0 = 0x8000'0031;
    s.gpr[kRbx] = kLinear + 0xffc;
    s.gpr[kRax] = ~0ull;
  });
  m.code({0x48, 0x89, 0x03, 0xf4});  // mov [rbx],rax
  m.run_until_halt();
  EXPECT_EQ(m.vector(), 14);
  EXPECT_EQ(m.state().cr2, kLinear + 0x1000);
  EXPECT_EQ(m.error_code(), 2);
  EXPECT_EQ(m.get64(kTarget + 0xff8), 0x1122334455667788);
}

TEST(a20_gate) {
  TestMachine m;
  m.enter_flat32();
  m.put(0x30000, {0x77});
  m.put(0x130000, {0x33});
  m.platform().a20 = ~(1ull << 20);
  m.change([](CpuState& s) { s.gpr[kRbx] = 0x130000; });
  EXPECT_EQ(m.execute({0x8a, 0x03}).gpr[kRax] & 0xff, 0x77);
}

TEST(not_canonical) {
  TestMachine m;
  m.enter_long64();
  m.change([](CpuState& s) { s.gpr[kRbx] = 0x8000'0000'0000; });
  m.execute({0x8a, 0x03});
  EXPECT_EQ(m.vector(), 13);
  m.enter_long64();
  m.change([](CpuState& s) { s.gpr[kRbp] = 0x7fff'ffff'ffff; });
  m.execute({0x66, 0x8b, 0x45, 0x00});  // mov ax,[rbp]: its second byte is not canonical
  EXPECT_EQ(m.vector(), 12);
}

TEST(mmio_is_split_at_eight_bytes_and_modified_in_place) {
  TestMachine m;
  m.enter_flat32();
  m.platform().mmio[0xfee00020] = 0x41;
  m.change([](CpuState& s) { s.gpr[kRbx] = 0xfee00020; });
  m.execute({0xff, 0x03});  // inc dword [ebx]
  REQUIRE(m.platform().mmio_writes.size() == 1);
  EXPECT_EQ(m.platform().mmio_writes[0].value, 0x42);
  EXPECT_EQ(m.platform().mmio_writes[0].size, 4);
}

TEST_MAIN()
