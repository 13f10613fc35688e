#pragma once
#include <cstdint>
namespace hv::softcpu { struct LazyFlags { std::uint64_t value() const { return 0; } }; }
