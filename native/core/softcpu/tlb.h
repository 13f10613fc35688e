#pragma once
namespace hv::softcpu { struct Tlb {}; }
