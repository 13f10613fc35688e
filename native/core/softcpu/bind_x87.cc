// From the x87's operations to their handlers.
#include <array>

#include "softcpu/exec_x87.h"
#include "softcpu/rows_x87.h"

namespace hv::softcpu {

namespace {

constexpr auto kFirst = static_cast<std::size_t>(Op::kFarithM32);
constexpr std::size_t kCount = static_cast<std::size_t>(Op::kFxrstor) - kFirst + 1;

constexpr std::size_t slot(Op op) { return static_cast<std::size_t>(op) - kFirst; }

// Which of D8 to DF an operation belongs to; 8 while unknown, and for WAIT and FXSAVE's.
constexpr auto kEscapes = [] {
  std::array<std::uint8_t, kCount> escapes{};
  escapes.fill(8);
  for (const Row& row : kX87Rows)
    if (row.map == Map::kOne && row.opcode >= 0xd8 && row.opcode <= 0xdf)
      escapes[slot(row.op)] = row.opcode & 7;
  return escapes;
}();

// No operation is shared by two of them.
static_assert([] {
  for (const Row& row : kX87Rows)
    if (kEscapes[slot(row.op)] < 8 && kEscapes[slot(row.op)] != (row.opcode & 7)) return false;
  return true;
}());

struct Binding {
  Op op;
  Handler handler;
};

constexpr Binding kBindings[] = {
    {Op::kFarithM32, x87::arith_m32}, {Op::kFarithM64, x87::arith_m64},
    {Op::kFarithI16, x87::arith_i16}, {Op::kFarithI32, x87::arith_i32},
    {Op::kFarithSt0, x87::arith_st0}, {Op::kFarithSti, x87::arith_sti},
    {Op::kFarithPop, x87::arith_pop},
    {Op::kFcomM32, x87::com_m32}, {Op::kFcomM64, x87::com_m64},
    {Op::kFcomI16, x87::com_i16}, {Op::kFcomI32, x87::com_i32},
    {Op::kFcomSt, x87::com_st}, {Op::kFcomSt4, x87::com_st}, {Op::kFcomSt6, x87::com_st6},
    {Op::kFcompp, x87::compp}, {Op::kFucom, x87::ucom}, {Op::kFucompp, x87::ucompp},
    {Op::kFcomi, x87::comi}, {Op::kFucomi, x87::ucomi},
    {Op::kFcomip, x87::comip}, {Op::kFucomip, x87::ucomip},
    {Op::kFcmov, x87::cmov}, {Op::kFcmovn, x87::cmovn}, {Op::kFtst, x87::tst},
    {Op::kFxam, x87::xam}, {Op::kFchs, x87::chs}, {Op::kFabs, x87::fabs},
    {Op::kFsqrt, x87::sqrt}, {Op::kFrndint, x87::rndint}, {Op::kFscale, x87::scale},
    {Op::kFxtract, x87::xtract}, {Op::kFprem, x87::prem}, {Op::kFprem1, x87::prem1},
    {Op::kFldM32, x87::ld_m32}, {Op::kFldM64, x87::ld_m64}, {Op::kFldM80, x87::ld_m80},
    {Op::kFldSt, x87::ld_st}, {Op::kFldConstant, x87::ld_constant},
    {Op::kFildI16, x87::ild_i16}, {Op::kFildI32, x87::ild_i32}, {Op::kFildI64, x87::ild_i64},
    {Op::kFbld, x87::bld},
    {Op::kFstM32, x87::st_m32}, {Op::kFstM64, x87::st_m64}, {Op::kFstpM80, x87::stp_m80},
    {Op::kFstSt, x87::st_st}, {Op::kFstpSt1, x87::stp_st1}, {Op::kFstpSt7, x87::stp_st},
    {Op::kFistI16, x87::ist_i16}, {Op::kFistI32, x87::ist_i32}, {Op::kFistpI64, x87::istp_i64},
    {Op::kFisttpI16, x87::isttp_i16}, {Op::kFisttpI32, x87::isttp_i32},
    {Op::kFisttpI64, x87::isttp_i64}, {Op::kFbstp, x87::bstp},
    {Op::kFxch, x87::xch}, {Op::kFxch5, x87::xch}, {Op::kFxch7, x87::xch},
    {Op::kFnop, x87::nop}, {Op::kFpuNop, x87::control_nop},
    {Op::kFfree, x87::free}, {Op::kFfreep, x87::freep},
    {Op::kFincstp, x87::incstp}, {Op::kFdecstp, x87::decstp},
    {Op::kFnclex, x87::clex}, {Op::kFninit, x87::init}, {Op::kFwait, x87::wait},
    {Op::kFldcw, x87::ldcw}, {Op::kFnstcw, x87::stcw},
    {Op::kFnstswM, x87::stsw_m}, {Op::kFnstswAx, x87::stsw_ax},
    {Op::kFnstenv, x87::stenv}, {Op::kFldenv, x87::ldenv},
    {Op::kFnsave, x87::save}, {Op::kFrstor, x87::rstor},
    {Op::kFxsave, x87::fxsave}, {Op::kFxrstor, x87::fxrstor},
    {Op::kF2xm1, x87::two_xm1}, {Op::kFyl2x, x87::yl2x}, {Op::kFyl2xp1, x87::yl2xp1},
    {Op::kFptan, x87::ptan}, {Op::kFpatan, x87::patan},
    {Op::kFsin, x87::sin}, {Op::kFcos, x87::cos}, {Op::kFsincos, x87::sincos},
};

constexpr auto kHandlers = [] {
  std::array<Handler, kCount> handlers{};
  for (const Binding& binding : kBindings) handlers[slot(binding.op)] = binding.handler;
  return handlers;
}();

// Each operation has one.
static_assert([] {
  std::array<unsigned, kCount> bindings{};
  for (const Binding& binding : kBindings) ++bindings[slot(binding.op)];
  for (const unsigned count : bindings)
    if (count != 1) return false;
  return true;
}());

}  // namespace

unsigned x87_escape(Op op) { return kEscapes[slot(op)]; }

Handler bind_x87(const Insn& insn) { return kHandlers[slot(insn.op)]; }

}  // namespace hv::softcpu
