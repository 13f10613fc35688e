#include "vm_object.h"

#include "../arguments.h"
#include "base/state.h"
#include "vm/choose_accelerator.h"

namespace hv::addon {
namespace {

constexpr std::uint64_t kWindow = 1ull << 30;
constexpr std::uint64_t kSafe = (1ull << 53) - 1;

std::string print(json::Object object) { return json::Value{std::move(object)}.print(); }

}  // namespace

Napi::Function VmObject::define(Napi::Env env) {
  return DefineClass(
      env, "NativeMachine",
      {InstanceMethod<&VmObject::accelerator>("accelerator"),
       InstanceMethod<&VmObject::shared>("shared"),
       InstanceMethod<&VmObject::memory_window>("memoryWindow"),
       InstanceMethod<&VmObject::written>("written"),
       InstanceMethod<&VmObject::map_range>("mapRange"),
       InstanceMethod<&VmObject::move_range>("moveRange"),
       InstanceMethod<&VmObject::enable_range>("enableRange"),
       InstanceMethod<&VmObject::remove_range>("removeRange"),
       InstanceMethod<&VmObject::answer>("answer"),
       InstanceMethod<&VmObject::unblock>("unblock"),
       InstanceMethod<&VmObject::outstanding>("outstanding"),
       InstanceMethod<&VmObject::line>("line"),
       InstanceMethod<&VmObject::set_line>("setLine"),
       InstanceMethod<&VmObject::set_trigger>("setTrigger"),
       InstanceMethod<&VmObject::msi>("msi"),
       InstanceMethod<&VmObject::nmi>("nmi"),
       InstanceMethod<&VmObject::set_a20>("setA20"),
       InstanceMethod<&VmObject::now>("now"),
       InstanceMethod<&VmObject::timer>("timer"),
       InstanceMethod<&VmObject::arm_timer>("armTimer"),
       InstanceMethod<&VmObject::cancel_timer>("cancelTimer"),
       InstanceMethod<&VmObject::uart>("uart"),
       InstanceMethod<&VmObject::map_uart>("mapUart"),
       InstanceMethod<&VmObject::uart_read>("uartRead"),
       InstanceMethod<&VmObject::uart_write>("uartWrite"),
       InstanceMethod<&VmObject::uart_interrupting>("uartInterrupting"),
       InstanceMethod<&VmObject::uart_take>("uartTake"),
       InstanceMethod<&VmObject::uart_receive>("uartReceive"),
       InstanceMethod<&VmObject::uart_break>("uartBreak"),
       InstanceMethod<&VmObject::uart_hold>("uartHold"),
       InstanceMethod<&VmObject::uart_reset>("uartReset"),
       InstanceMethod<&VmObject::uart_save>("uartSave"),
       InstanceMethod<&VmObject::uart_restore>("uartRestore"),
       InstanceMethod<&VmObject::io_add>("ioAdd"),
       InstanceMethod<&VmObject::io_twin>("ioTwin"),
       InstanceMethod<&VmObject::io_buffer>("ioBuffer"),
       InstanceMethod<&VmObject::io_drop>("ioDrop"),
       InstanceMethod<&VmObject::io_submit>("ioSubmit"),
       InstanceMethod<&VmObject::io_take>("ioTake"),
       InstanceMethod<&VmObject::io_cancel>("ioCancel"),
       InstanceMethod<&VmObject::io_close>("ioClose"),
       InstanceMethod<&VmObject::net_tap>("netTap"),
       InstanceMethod<&VmObject::net_stream>("netStream"),
       InstanceMethod<&VmObject::net_pair>("netPair"),
       InstanceMethod<&VmObject::net_switch>("netSwitch"),
       InstanceMethod<&VmObject::net_vmnet>("netVmnet"),
       InstanceMethod<&VmObject::run>("run"),
       InstanceMethod<&VmObject::park>("park"),
       InstanceMethod<&VmObject::settle>("settle"),
       InstanceMethod<&VmObject::reset>("reset"),
       InstanceMethod<&VmObject::stop>("stop"),
       InstanceMethod<&VmObject::release>("release"),
       InstanceMethod<&VmObject::vcpu>("vcpu"),
       InstanceMethod<&VmObject::set_vcpu>("setVcpu"),
       InstanceMethod<&VmObject::save>("save"),
       InstanceMethod<&VmObject::restore>("restore"),
       InstanceMethod<&VmObject::statistics>("statistics")});
}

VmObject::VmObject(const Info& info) : Napi::ObjectWrap<VmObject>{info} {
  Arguments args{info};
  const std::string wanted = args.text(0, "accelerator");
  VmConfig config;
  config.cpus = args.word(1, "cpus");
  config.memory = args.integer(2, "memory", kSafe);
  config.x2apic = args.flag(3, "x2apic");
  config.strict_io = args.flag(4, "strictIo");
  config.ignore_unknown_msrs = args.flag(5, "ignoreUnknownMsrs");
  config.rtc_utc = args.flag(6, "rtcUtc");
  const bool host_cpu = args.flag(7, "hostCpu");
  const Napi::Function serve = args.function(8, "serve"), notify = args.function(9, "notify");
  const Napi::Function completed = args.function(10, "completed");
  if (!args.ok()) return;
  const AcceleratorChoice choice = choose_accelerator(wanted);
  if (choice.accelerator == nullptr) {
    refuse(info, choice.report.reason, "ACCELERATOR_UNUSABLE");
    return;
  }
  const Accelerator* const accelerator =
      host_cpu ? choice.accelerator->with_host_cpu() : choice.accelerator;
  if (accelerator == nullptr) {
    refuse(info, "accelerator " + choice.report.name + " (" + choice.report.reason + ")",
           "CPU_MODEL_UNUSABLE");
    return;
  }
  accelerator_ = choice.report.name;
  reason_ = choice.report.reason;
  pump_ = std::make_unique<Pump>(info.Env(), serve, notify, completed);
  std::string error;
  vm_ = Vm::create(config, *accelerator, *pump_, error);
  if (vm_ == nullptr) {
    Pump::close(std::move(pump_), {});
    refuse(info, error);
    return;
  }
  pump_->attach(vm_->bus());
  next_source_.fill(kFirstFreeSource);
  napi_add_async_cleanup_hook(info.Env(), on_environment_end, this, &cleanup_);
  Ref();  // until release(): threads run on its parts
}

// Only after release(), or where the constructor failed: a VM under way holds a reference.
VmObject::~VmObject() = default;

void VmObject::tear_down(std::function<void()> closed) {
  vm_->stop();
  pump_->detach();
  io_.reset();  // its threads reach the pump
  timers_.clear();
  vm_.reset();  // joins the threads: at once after kExited
  lines_.clear();
  Pump::close(std::move(pump_), std::move(closed));
}

void VmObject::on_environment_end(napi_async_cleanup_hook_handle hook, void* self) {
  static_cast<VmObject*>(self)->tear_down([hook] { napi_remove_async_cleanup_hook(hook); });
}

void VmObject::release(const Info& info) {
  if (!alive(info)) return;
  napi_remove_async_cleanup_hook(cleanup_);
  tear_down({});
  Unref();
}

bool VmObject::alive(const Info& info) {
  if (vm_ == nullptr) refuse(info, "the machine has been destroyed");
  return vm_ != nullptr;
}

void VmObject::refuse(const Info& info, const std::string& why, const char* code) {
  const Napi::Error error = Napi::Error::New(info.Env(), why);
  if (code != nullptr) error.Set("code", code);
  error.ThrowAsJavaScriptException();
}

Napi::Value VmObject::external(Napi::Env env, std::uint8_t* at, std::size_t size,
                               std::shared_ptr<void> keep) {
  auto* const holder = new std::shared_ptr<void>{std::move(keep)};
  return Napi::ArrayBuffer::New(
      env, at, size, [](Napi::BasicEnv, void*, std::shared_ptr<void>* held) { delete held; },
      holder);
}

Napi::Value VmObject::accelerator(const Info& info) {
  const Napi::Array out = Napi::Array::New(info.Env(), 2);
  out.Set(0u, accelerator_);
  out.Set(1u, reason_);
  return out;
}

Napi::Value VmObject::shared(const Info& info) {
  if (!alive(info)) return info.Env().Undefined();
  SharedWire& wire = vm_->bus().channel().shared();
  return external(info.Env(), wire.base(), wire.size(), vm_->bus().channel().shared_pointer());
}

Napi::Value VmObject::memory_window(const Info& info) {
  Arguments args{info};
  const std::uint64_t at = args.integer(0, "index", 1u << 20) * kWindow;
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  const std::span<std::uint8_t> bytes = vm_->memory().bytes();
  if (at >= bytes.size()) return args.fail("index", "of a window"), info.Env().Undefined();
  const std::size_t size = std::min<std::size_t>(kWindow, bytes.size() - at);
  return external(info.Env(), bytes.data() + at, size, vm_->shared_memory());
}

void VmObject::written(const Info& info) {
  Arguments args{info};
  const std::uint64_t at = args.integer(0, "gpa", kSafe);
  const std::uint64_t length = args.integer(1, "length", kSafe);
  if (!args.ok() || !alive(info)) return;
  if (length != 0 && vm_->memory().host(Gpa{at}, length) == nullptr)
    return refuse(info, "written(): not all of that is guest memory");
  vm_->memory().written(Gpa{at}, length);
}

// --- vCPUs and state ----------------------------------------------------------------------------

Napi::Value VmObject::run(const Info& info) {
  return Napi::Boolean::New(info.Env(), alive(info) && vm_->run());
}

void VmObject::park(const Info& info) {
  if (alive(info)) vm_->park();
}

void VmObject::settle(const Info& info) {
  if (alive(info)) vm_->board().timers.settle();
}

Napi::Value VmObject::reset(const Info& info) {
  return Napi::Boolean::New(info.Env(), alive(info) && vm_->reset());
}

void VmObject::stop(const Info& info) {
  if (alive(info)) vm_->stop();
}

Napi::Value VmObject::vcpu(const Info& info) {
  Arguments args{info};
  const VcpuIndex index = args.word(0, "index", kMaxVcpus);
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  const CpuState* const state = vm_->cpu(index);
  if (state == nullptr) return info.Env().Undefined();
  return Napi::String::New(info.Env(), state::save(*state).print());
}

Napi::Value VmObject::set_vcpu(const Info& info) {
  Arguments args{info};
  const VcpuIndex index = args.word(0, "index", kMaxVcpus);
  const std::string text = args.text(1, "state");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  CpuState state;
  const auto value = json::parse(text);
  std::string wrong = value ? state::restore(*value, state) : "cpu: the state is not JSON";
  if (wrong.empty() && !vm_->set_cpu(index, state))
    wrong = "the machine is not paused, or has no such vCPU";
  return Napi::String::New(info.Env(), wrong);
}

Napi::Value VmObject::save(const Info& info) {
  if (!alive(info)) return info.Env().Undefined();
  return Napi::String::New(info.Env(), print(vm_->save()));
}

Napi::Value VmObject::restore(const Info& info) {
  Arguments args{info};
  const std::string text = args.text(0, "state");
  if (!args.ok() || !alive(info)) return info.Env().Undefined();
  const auto value = json::parse(text);
  return Napi::String::New(info.Env(), value ? vm_->restore(*value) : "the state is not JSON");
}

Napi::Value VmObject::statistics(const Info& info) {
  if (!alive(info)) return info.Env().Undefined();
  return Napi::String::New(info.Env(), print(vm_->statistics()));
}

}  // namespace hv::addon
