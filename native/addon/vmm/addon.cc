// The addon of the VM process. See native/index.ts for what it is to TypeScript.
#include <napi.h>

#include "vm/choose_accelerator.h"
#include "vm_object.h"

namespace hv::addon {
namespace {

// [{name, usable, reason}, …] in the order of preference.
Napi::Value accelerator_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Array out = Napi::Array::New(env);
  for (const AcceleratorReport& report : report_accelerators()) {
    const Napi::Object row = Napi::Object::New(env);
    row.Set("name", report.name);
    row.Set("usable", report.usable);
    row.Set("reason", report.reason);
    out.Set(out.Length(), row);
  }
  return out;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeMachine", VmObject::define(env));
  exports.Set("acceleratorInfo", Napi::Function::New<accelerator_info>(env));
  return exports;
}

}  // namespace
}  // namespace hv::addon

static Napi::Object vmm_init(Napi::Env env, Napi::Object exports) {
  return hv::addon::init(env, exports);
}
NODE_API_MODULE(vmm, vmm_init)
