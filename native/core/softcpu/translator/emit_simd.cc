// SSE: for now nothing; the handlers do it all.
#include "softcpu/translator/block_translator.h"
#include "softcpu/translator/host.h"

#if HV_TRANSLATOR
namespace hv::softcpu::translator {
std::span<const BlockTranslator::Entry> BlockTranslator::simd_emitters() { return {}; }
}  // namespace hv::softcpu::translator
#endif
