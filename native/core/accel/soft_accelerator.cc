// The software CPU as an accelerator: it runs anywhere.
#include <map>
#include <mutex>
#include <vector>

#include "accel/accelerator.h"
#include "accel/hardware.h"
#include "softcpu/cpu.h"

namespace hv {

namespace {

class SoftMachine final : public Machine {
 public:
  SoftMachine(GuestMemory& memory, const softcpu::TranslatorOptions& options)
      : Machine{memory}, options_(options) {}
  std::unique_ptr<Vcpu> create_vcpu(const VcpuWiring& wiring) override {
    return std::make_unique<softcpu::Cpu>(wiring, memory(), options_);
  }

 private:
  const softcpu::TranslatorOptions options_;
};

class SoftAccelerator final : public Accelerator {
 public:
  explicit SoftAccelerator(const softcpu::TranslatorOptions& options) : options_(options) {}
  std::string_view name() const override { return "soft"; }
  std::optional<std::string> unavailable() const override { return std::nullopt; }
  std::unique_ptr<Machine> create_machine(GuestMemory& memory) const override {
    return std::make_unique<SoftMachine>(memory, options_);
  }

 private:
  const softcpu::TranslatorOptions options_;
};

}  // namespace

std::span<const Accelerator* const> accelerators() {
  static const SoftAccelerator soft{softcpu::TranslatorOptions::from_environment()};
  static const std::vector<const Accelerator*> all = [] {
    const auto hardware = hardware_accelerators();
    std::vector<const Accelerator*> list{hardware.begin(), hardware.end()};
    list.push_back(&soft);
    return list;
  }();
  return all;
}

const Accelerator* soft_accelerator(std::string_view words) {
  static std::mutex mutex;
  static std::map<std::string, SoftAccelerator, std::less<>> made;
  const std::scoped_lock lock{mutex};
  const std::string key{words};
  return &made.try_emplace(key, softcpu::TranslatorOptions::parse(key)).first->second;
}

}  // namespace hv
