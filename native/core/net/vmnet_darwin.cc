// vmnet.framework by its public calls (Apple's documentation, "vmnet"), declared here so that no SDK
// is needed.
#include "net/vmnet.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "net/vmnet_link.h"

extern "C" {
typedef struct vmnet_interface* interface_ref;
typedef void* xpc_object_t;
typedef void* dispatch_queue_t;
typedef void* dispatch_semaphore_t;
typedef std::uint32_t vmnet_return_t;
typedef std::uint32_t interface_event_t;
struct vmpktdesc {
  std::size_t vm_pkt_size;
  struct iovec* vm_pkt_iov;
  std::uint32_t vm_pkt_iovcnt;
  std::uint32_t vm_flags;
};
extern const char* vmnet_operation_mode_key;
extern const char* vmnet_interface_id_key;
extern const char* vmnet_mac_address_key;
extern const char* vmnet_max_packet_size_key;
extern const char* vmnet_shared_interface_name_key;
interface_ref vmnet_start_interface(xpc_object_t description, dispatch_queue_t queue,
                                    void (^handler)(vmnet_return_t status, xpc_object_t parameters));
vmnet_return_t vmnet_stop_interface(interface_ref interface, dispatch_queue_t queue,
                                    void (^handler)(vmnet_return_t status));
vmnet_return_t vmnet_interface_set_event_callback(interface_ref interface, interface_event_t events,
                                                  dispatch_queue_t queue,
                                                  void (^callback)(interface_event_t events,
                                                                   xpc_object_t event));
vmnet_return_t vmnet_read(interface_ref interface, struct vmpktdesc* packets, int* count);
vmnet_return_t vmnet_write(interface_ref interface, struct vmpktdesc* packets, int* count);
xpc_object_t xpc_dictionary_create(const char* const* keys, const xpc_object_t* values,
                                   std::size_t count);
void xpc_dictionary_set_uint64(xpc_object_t dictionary, const char* key, std::uint64_t value);
void xpc_dictionary_set_uuid(xpc_object_t dictionary, const char* key, const unsigned char uuid[16]);
void xpc_dictionary_set_string(xpc_object_t dictionary, const char* key, const char* value);
std::uint64_t xpc_dictionary_get_uint64(xpc_object_t dictionary, const char* key);
const char* xpc_dictionary_get_string(xpc_object_t dictionary, const char* key);
void xpc_release(xpc_object_t object);
dispatch_queue_t dispatch_queue_create(const char* label, void* attributes);
dispatch_semaphore_t dispatch_semaphore_create(long value);
long dispatch_semaphore_wait(dispatch_semaphore_t semaphore, std::uint64_t timeout);
long dispatch_semaphore_signal(dispatch_semaphore_t semaphore);
void dispatch_release(void* object);
}

namespace hv::net {
namespace {

constexpr std::uint64_t kHostMode = 1000, kSharedMode = 1001, kBridgedMode = 1002;
constexpr vmnet_return_t kSuccess = 1000, kBufferExhausted = 1007;
constexpr interface_event_t kPacketsAvailable = 1;
constexpr std::uint64_t kForever = ~0ull;
constexpr std::size_t kMostPackets = 64;

const char* text_of(vmnet_return_t status) {
  switch (status) {
    case 1001:
      return "vmnet could not create the interface; is this process root, or entitled to "
             "com.apple.vm.networking?";
    case 1003:
      return "vmnet does not accept these settings";
    case 1005:
      return "vmnet does not allow this process";
    default:
      return "vmnet could not create the interface";
  }
}

class Interface final : public VmnetInterface {
 public:
  Interface(interface_ref interface, dispatch_queue_t queue, std::size_t most)
      : interface_{interface}, queue_{queue}, most_{most} {}

  ~Interface() override {
    const dispatch_semaphore_t done = dispatch_semaphore_create(0);
    const vmnet_return_t status = vmnet_stop_interface(
        interface_, queue_, ^(vmnet_return_t) { dispatch_semaphore_signal(done); });
    if (status == kSuccess) dispatch_semaphore_wait(done, kForever);
    dispatch_release(done);
    dispatch_release(queue_);
  }

  std::size_t most_bytes() const override { return most_; }
  std::size_t most_packets() const override { return kMostPackets; }

  bool read(std::vector<VmnetPacket>& packets, std::size_t& count) override {
    descriptors(packets);
    int got = static_cast<int>(descriptors_.size());
    if (vmnet_read(interface_, descriptors_.data(), &got) != kSuccess) return false;
    count = static_cast<std::size_t>(std::max(got, 0));
    for (std::size_t i = 0; i < count; ++i) packets[i].size = descriptors_[i].vm_pkt_size;
    return true;
  }

  bool write(const std::vector<VmnetPacket>& packets, std::size_t& count) override {
    descriptors(packets);
    int sent = static_cast<int>(descriptors_.size());
    const vmnet_return_t status = vmnet_write(interface_, descriptors_.data(), &sent);
    count = static_cast<std::size_t>(std::max(sent, 0));
    return status == kSuccess || status == kBufferExhausted;
  }

 private:
  void descriptors(const std::vector<VmnetPacket>& packets) {
    descriptors_.clear();
    for (const VmnetPacket& one : packets)
      descriptors_.push_back({one.size, const_cast<iovec*>(one.pieces.data()),
                              static_cast<std::uint32_t>(one.pieces.size()), 0});
  }

  const interface_ref interface_;
  const dispatch_queue_t queue_;
  const std::size_t most_;
  std::vector<vmpktdesc> descriptors_;
};

bool read_uuid(const std::string& text, unsigned char out[16]) {
  std::size_t nibbles = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const char digit[2] = {c, 0};
    unsigned value = 0;
    if (nibbles == 32 || std::sscanf(digit, "%1x", &value) != 1) return false;
    out[nibbles / 2] = static_cast<unsigned char>(nibbles % 2 ? out[nibbles / 2] | value : value << 4);
    ++nibbles;
  }
  return nibbles == 32;
}

xpc_object_t describe(const VmnetOptions& options) {
  const xpc_object_t out = xpc_dictionary_create(nullptr, nullptr, 0);
  using Mode = VmnetOptions::Mode;
  const std::uint64_t mode = options.mode == Mode::kHost     ? kHostMode
                             : options.mode == Mode::kShared ? kSharedMode
                                                             : kBridgedMode;
  xpc_dictionary_set_uint64(out, vmnet_operation_mode_key, mode);
  unsigned char id[16];
  if (read_uuid(options.interface_id, id)) xpc_dictionary_set_uuid(out, vmnet_interface_id_key, id);
  if (options.mode == Mode::kBridged)
    xpc_dictionary_set_string(out, vmnet_shared_interface_name_key, options.bridge_to.c_str());
  return out;
}

bool read_mac(const char* text, Mac& out) {
  if (text == nullptr) return false;
  std::array<unsigned, kMacBytes> bytes;
  if (std::sscanf(text, "%x:%x:%x:%x:%x:%x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
                  &bytes[5]) != 6)
    return false;
  std::ranges::transform(bytes, out.begin(), [](unsigned one) { return static_cast<std::uint8_t>(one); });
  return true;
}

}  // namespace

std::string open_vmnet(const VmnetOptions& options, Vmnet& out) {
  int wake[2];
  if (::pipe(wake) != 0) return std::strerror(errno);
  for (const int fd : wake) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
  }
  const dispatch_queue_t queue = dispatch_queue_create("xhyved.vmnet", nullptr);
  const dispatch_semaphore_t done = dispatch_semaphore_create(0);
  __block vmnet_return_t status = 0;
  __block std::size_t most = 0;
  __block Mac mac{};
  const xpc_object_t description = describe(options);
  const interface_ref interface =
      vmnet_start_interface(description, queue, ^(vmnet_return_t how, xpc_object_t parameters) {
        status = how;
        if (how == kSuccess) {
          most = xpc_dictionary_get_uint64(parameters, vmnet_max_packet_size_key);
          read_mac(xpc_dictionary_get_string(parameters, vmnet_mac_address_key), mac);
        }
        dispatch_semaphore_signal(done);
      });
  if (interface != nullptr) dispatch_semaphore_wait(done, kForever);
  xpc_release(description);
  dispatch_release(done);
  if (interface == nullptr || status != kSuccess) {
    dispatch_release(queue);
    ::close(wake[0]);
    ::close(wake[1]);
    return text_of(status);
  }
  const int end = wake[1];
  vmnet_interface_set_event_callback(interface, kPacketsAvailable, queue,
                                     ^(interface_event_t, xpc_object_t) {
                                       // A full pipe has woken already.
                                       (void)!::write(end, "", 1);
                                     });
  out.link = std::make_unique<VmnetLink>(std::make_unique<Interface>(interface, queue, most),
                                         wake[0], wake[1]);
  out.mac = mac;
  return {};
}

}  // namespace hv::net
