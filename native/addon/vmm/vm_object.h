// The VM as JavaScript holds it: native/index.ts wraps this class, nobody else uses it. Values are
// numbers, strings and JSON texts; meaning is added in TypeScript.
#pragma once
#include <napi.h>

#include <array>
#include <deque>
#include <memory>

#include "io/pool.h"
#include "net/link.h"
#include "pump.h"
#include "vm/vm.h"

namespace hv::addon {

class VmObject final : public Napi::ObjectWrap<VmObject> {
 public:
  static Napi::Function define(Napi::Env env);
  // (accelerator, cpus, memory, x2apic, strictIo, ignoreUnknownMsrs, rtcUtc, hostCpu, serve, notify,
  // completed); an error with `code` ACCELERATOR_UNUSABLE or CPU_MODEL_UNUSABLE says why not
  explicit VmObject(const Napi::CallbackInfo& info);
  ~VmObject() override;

 private:
  using Info = Napi::CallbackInfo;
  using Value = Napi::Value;

  // A device's source on a wire, also as a register's declaration needs it.
  struct DeviceLine final : LevelLine {
    explicit DeviceLine(Line wire) : line{wire} {}
    void set(bool level) override { line.set(level); }
    Line line;
  };

  Value accelerator(const Info& info);  // [name, reason]
  Value shared(const Info& info);
  Value memory_window(const Info& info);  // (index): ArrayBuffer of up to 1 GiB
  void written(const Info& info);         // (gpa, length)

  Value map_range(const Info& info);  // (name, space, base, length, ways): [id, ArrayBuffer]
  void move_range(const Info& info);  // (id, base)
  void enable_range(const Info& info);
  void remove_range(const Info& info);
  void answer(const Info& info);  // (vcpu, value)
  void unblock(const Info& info);
  Value outstanding(const Info& info);

  Value line(const Info& info);  // (kind, number): id
  void set_line(const Info& info);
  void set_trigger(const Info& info);  // (irq, level): the ELCR
  Value msi(const Info& info);
  void nmi(const Info& info);
  void set_a20(const Info& info);

  Value now(const Info& info);
  Value timer(const Info& info);
  Value arm_timer(const Info& info);  // (id, at): generation
  void cancel_timer(const Info& info);

  Value uart(const Info& info);           // (line or undefined): id
  Value map_uart(const Info& info);       // (id, name, port): the range's id
  Value uart_read(const Info& info);      // (id, offset)
  void uart_write(const Info& info);      // (id, offset, value)
  Value uart_interrupting(const Info& info);
  Value uart_take(const Info& info);      // (id): Uint8Array
  Value uart_receive(const Info& info);   // (id, bytes): whether more is welcome
  void uart_break(const Info& info);
  void uart_hold(const Info& info);       // (id, on)
  void uart_reset(const Info& info);
  Value uart_save(const Info& info);
  Value uart_restore(const Info& info);   // (id, text): what is wrong, or ""

  Value io_add(const Info& info);
  Value io_twin(const Info& info);
  Value io_buffer(const Info& info);
  void io_drop(const Info& info);
  Value io_submit(const Info& info);
  Value io_take(const Info& info);
  void io_cancel(const Info& info);
  void io_close(const Info& info);

  Value net_tap(const Info& info);
  Value net_stream(const Info& info);
  Value net_pair(const Info& info);
  Value net_switch(const Info& info);
  Value net_vmnet(const Info& info);
  Value net_port(const Info& info, std::unique_ptr<net::Link> link);

  Value run(const Info& info);
  void park(const Info& info);
  void settle(const Info& info);
  Value reset(const Info& info);
  void stop(const Info& info);
  void release(const Info& info);  // after the notice kExited

  Value vcpu(const Info& info);
  Value set_vcpu(const Info& info);  // (index, text): what is wrong, or ""
  Value save(const Info& info);
  Value restore(const Info& info);  // (text): what is wrong, or ""
  Value statistics(const Info& info);

  // The chip that the first argument names; nullptr: an Error is thrown.
  Uart* uart_of(const Info& info);
  io::Pool& pool();
  // False, and an Error is thrown, after release().
  bool alive(const Info& info);
  // `code`: the error's, for JavaScript to tell by.
  void refuse(const Info& info, const std::string& why, const char* code = nullptr);
  Napi::Value external(Napi::Env env, std::uint8_t* at, std::size_t size,
                       std::shared_ptr<void> keep);
  bool read_ways(Napi::Array flat, std::vector<RegisterWays>& ways);
  IrqSource take_source(Line::Kind kind, unsigned number);
  void tear_down(std::function<void()> closed);
  static void on_environment_end(napi_async_cleanup_hook_handle hook, void* self);

  std::string accelerator_, reason_;
  std::unique_ptr<Pump> pump_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<io::Pool> io_;  // made with the first file
  std::deque<DeviceLine> lines_;
  std::array<IrqSource, kIoApicPins> next_source_{};
  std::deque<Timer> timers_;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
};

}  // namespace hv::addon
