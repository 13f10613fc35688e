// The addon of the VM process. See native/index.ts for what it is to TypeScript.
#include <napi.h>

#include "net_object.h"
#include "vm/choose_accelerator.h"
#include "vm_object.h"

namespace hv::addon {
namespace {

Napi::Object to_object(Napi::Env env, const AcceleratorReport& report) {
  const Napi::Object row = Napi::Object::New(env);
  row.Set("name", report.name);
  row.Set("usable", report.usable);
  row.Set("reason", report.reason);
  return row;
}

// [{name, usable, reason}, …] in the order of preference.
Napi::Value accelerator_info(const Napi::CallbackInfo& info) {
  const Napi::Array out = Napi::Array::New(info.Env());
  for (const AcceleratorReport& report : report_accelerators())
    out.Set(out.Length(), to_object(info.Env(), report));
  return out;
}

// What `auto` takes, in the same form.
Napi::Value automatic_accelerator(const Napi::CallbackInfo& info) {
  return to_object(info.Env(), choose_accelerator("auto").report);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeMachine", VmObject::define(env));
  NetObject::define(env);
  exports.Set("acceleratorInfo", Napi::Function::New<accelerator_info>(env));
  exports.Set("automaticAccelerator", Napi::Function::New<automatic_accelerator>(env));
  return exports;
}

}  // namespace
}  // namespace hv::addon

static Napi::Object vmm_init(Napi::Env env, Napi::Object exports) {
  return hv::addon::init(env, exports);
}
NODE_API_MODULE(vmm, vmm_init)
