#include "net/switch_link.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "net/offload.h"

namespace hv::net {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kHello = 0, kFrame = 1;
constexpr std::size_t kHelloBytes = 3, kFrameHead = 1 + sizeof(Header);
constexpr std::size_t kMostPeers = 64, kMostLearned = 256;

struct Descriptor {
  explicit Descriptor(int of) : fd{of} {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd;
};

std::uint64_t key_of(const std::uint8_t* mac) {
  std::uint64_t key = 0;
  std::memcpy(&key, mac, kMacBytes);
  return key;
}

bool address_of(const std::string& path, sockaddr_un& out) {
  out = {};
  out.sun_family = AF_UNIX;
  if (path.size() >= sizeof(out.sun_path)) return false;
  path.copy(out.sun_path, path.size());
  return true;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

void set_up(int fd) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int new_socket() {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd >= 0) set_up(fd);
  return fd;
}

std::string name_of(const Mac& mac) {
  char out[2 * kMacBytes + 1];
  for (std::size_t i = 0; i < kMacBytes; ++i) std::snprintf(out + 2 * i, 3, "%02x", mac[i]);
  return out;
}
bool is_card(std::string_view name) {
  return name.size() == 2 * kMacBytes &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Held while somebody joins, so that of two cards the later one connects to the earlier one.
int lock(const std::string& folder, Descriptor& out) {
  constexpr int kTries = 300;
  constexpr useconds_t kWait = 10'000;
  out.fd = ::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (out.fd < 0) return errno;
  for (int i = 0; i < kTries; ++i) {
    if (::flock(out.fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK && errno != EINTR) return errno;
    ::usleep(kWait);
  }
  return EBUSY;
}

}  // namespace

SwitchLink::Peer::Peer(int fd) : socket{fd, kFrameHead + kMostFrame} {}

std::unique_ptr<SwitchLink> SwitchLink::join(const std::string& folder, const Mac& mac,
                                             int& error) {
  std::unique_ptr<SwitchLink> link{new SwitchLink{mac}};
  error = link->open(folder);
  return error == 0 ? std::move(link) : nullptr;
}

SwitchLink::~SwitchLink() {
  if (listener_ >= 0) ::close(listener_);
  if (!path_.empty()) ::unlink(path_.c_str());
}

int SwitchLink::open(const std::string& folder) {
  poller_ = host::Poller::create();
  if (poller_ == nullptr) return errno;
  Descriptor held{-1};
  if (const int error = lock(folder, held)) return error;
  if (const int error = connect_all(folder)) return error;
  return listen(folder);
}

int SwitchLink::listen(const std::string& folder) {
  sockaddr_un address;
  if (!address_of(folder + "/" + name_of(mac_), address)) return ENAMETOOLONG;
  listener_ = new_socket();
  if (listener_ < 0) return errno;
  if (::bind(listener_, generic(address), sizeof(address)) != 0) return errno;
  path_ = address.sun_path;
  if (::listen(listener_, kMostPeers) != 0) return errno;
  poller_->watch(listener_, false);
  return 0;
}

// A socket that nobody listens on is what a killed process left.
int SwitchLink::connect_all(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries{::opendir(folder.c_str()), ::closedir};
  if (entries == nullptr) return errno;
  while (const dirent* const entry = ::readdir(entries.get())) {
    if (!is_card(entry->d_name)) continue;
    sockaddr_un address;
    if (!address_of(folder + "/" + entry->d_name, address)) continue;
    if (peers_.size() >= kMostPeers) return EMLINK;
    const int fd = new_socket();
    if (fd < 0) return errno;
    if (::connect(fd, generic(address), sizeof(address)) == 0) {
      if (name_of(mac_) == entry->d_name) return ::close(fd), EADDRINUSE;
      add(fd);
      continue;
    }
    if (errno == ECONNREFUSED) ::unlink(address.sun_path);
    ::close(fd);
  }
  return 0;
}

void SwitchLink::add(int fd) {
  auto peer = std::make_unique<Peer>(fd);
  hello(*peer);
  poller_->watch(fd, false);
  peers_[fd] = std::move(peer);
}

void SwitchLink::drop(int fd) {
  poller_->forget(fd);
  std::erase_if(where_, [fd](const auto& one) { return one.second == fd; });
  peers_.erase(fd);
}

void SwitchLink::accept_new() {
  for (std::size_t i = 0; i < kMostPeers; ++i) {
    const int fd = ::accept(listener_, nullptr, nullptr);
    if (fd < 0) return;
    set_up(fd);
    if (peers_.size() < kMostPeers) add(fd);
    else ::close(fd);
  }
}

// Where a connection is full, as soon as it is not: until then frames come that are lost here.
void SwitchLink::hello(Peer& peer) {
  peer.hello_due = !peer.socket.has_room(kHelloBytes);
  if (peer.hello_due) return;
  const std::span<std::uint8_t> message = peer.socket.put(kHelloBytes);
  message[0] = kHello;
  message[1] = kVersion;
  message[2] = static_cast<std::uint8_t>(accepts_);
  peer.socket.flush();
}

void SwitchLink::accept(unsigned offloads) {
  accepts_ = offloads & kSoftwareOffloads;
  for (auto& [fd, peer] : peers_) hello(*peer);
}

// --- sending ------------------------------------------------------------------------------------

Result SwitchLink::send(const Header& header, std::span<const iovec> frame) {
  whole_.resize(total(frame));
  gather(frame, 0, whole_);
  const auto needed = needs(header, whole_);
  if (!needed) return Result::kDropped;
  const auto known = where_.find(key_of(whole_.data()));
  if (known != where_.end() && !(whole_[0] & 1)) {
    const auto found = peers_.find(known->second);
    if (found != peers_.end()) give(*found->second, header, *needed);
    return Result::kDone;
  }
  for (auto& [fd, peer] : peers_) give(*peer, header, *needed);
  return Result::kDone;
}

// The frame in `whole_`, finished where this card wants it so. A full connection loses it, as a
// full port of any switch would: one slow card does not hold up the others.
void SwitchLink::give(Peer& peer, const Header& header, unsigned needed) {
  if ((needed & peer.accepts) == needed) return put(peer, header, whole_);
  finished_.assign(whole_.begin(), whole_.end());
  finish(header, finished_,
         [&](std::span<const std::uint8_t> part) { put(peer, Header{}, part); });
}

void SwitchLink::put(Peer& peer, const Header& header, std::span<const std::uint8_t> frame) {
  if (!peer.socket.has_room(kFrameHead + frame.size())) return;
  const std::span<std::uint8_t> message = peer.socket.put(kFrameHead + frame.size());
  message[0] = kFrame;
  std::memcpy(message.data() + 1, &header, sizeof(header));
  std::ranges::copy(frame, message.begin() + kFrameHead);
  peer.unsent = true;
}

bool SwitchLink::flush() {
  std::vector<int> broken;
  for (auto& [fd, peer] : peers_) {
    if (!peer->unsent) continue;
    if (!peer->socket.flush()) broken.push_back(fd);
    else if (peer->hello_due) hello(*peer);
    peer->unsent = peer->socket.waiting();
    poller_->watch(fd, peer->unsent);
  }
  for (const int fd : broken) drop(fd);
  return false;  // send() never refuses: nobody need wait
}

// --- receiving ----------------------------------------------------------------------------------

void SwitchLink::heard_hello(Peer& peer, std::span<const std::uint8_t> message) {
  peer.greeted = true;
  peer.accepts = message[2];
}

// A bounded table, and a bounded part of it for each card: nobody can push out others' addresses.
void SwitchLink::learn(Peer& peer, int fd, std::span<const std::uint8_t> frame) {
  const std::uint8_t* const source = frame.data() + kMacBytes;
  if (source[0] & 1) return;
  const auto [found, fresh] = where_.try_emplace(key_of(source), fd);
  if (!fresh) {
    found->second = fd;
  } else if (++peer.learned > kMostLearned) {
    where_.erase(found);
    --peer.learned;
  }
}

// What a peer says of its frame is another guest's word: one that does not fit the frame, or leaves
// undone what this guest does not take, is lost.
Result SwitchLink::heard_frame(std::span<const std::uint8_t> message, Header& header,
                               std::span<const std::uint8_t>& frame) const {
  std::memcpy(&header, message.data() + 1, sizeof(header));
  frame = message.subspan(kFrameHead);
  header.flags &= kNeedsChecksum;
  const auto needed = needs(header, frame);
  return needed && (*needed & accepts_) == *needed ? Result::kDone : Result::kDropped;
}

// The next message of one peer: kBusy where it has none now, or is gone.
Result SwitchLink::next_of(int fd, Header& header, std::span<const std::uint8_t>& frame) {
  const auto found = peers_.find(fd);
  if (found == peers_.end()) return Result::kBusy;
  Peer& peer = *found->second;
  std::span<const std::uint8_t> message;
  const FramedSocket::State state = peer.socket.next(message);
  if (state == FramedSocket::State::kNone) return Result::kBusy;
  const bool whole = state == FramedSocket::State::kMessage && !message.empty();
  if (whole && message.size() == kHelloBytes && message[0] == kHello && message[1] == kVersion) {
    heard_hello(peer, message);
    return Result::kAgain;
  }
  if (!whole || !peer.greeted || message[0] != kFrame || message.size() < kFrameHead + kEthernet) {
    drop(fd);
    return Result::kBusy;
  }
  const Result result = heard_frame(message, header, frame);
  if (result == Result::kDone) learn(peer, fd, frame);
  return result;
}

Result SwitchLink::receive(Header& header, std::span<const iovec> room, std::size_t& length) {
  if (ready_.empty()) poller_->ready(ready_);
  while (!ready_.empty()) {
    const int fd = ready_.back();
    std::span<const std::uint8_t> frame;
    const Result result = fd == listener_ ? Result::kBusy : next_of(fd, header, frame);
    if (result != Result::kBusy) {
      length = frame.size();
      if (result == Result::kDone) scatter(frame, room);
      std::ranges::rotate(ready_, ready_.end() - 1);  // the others have their turn
      return result;
    }
    if (fd == listener_) {
      accept_new();
    } else if (const auto peer = peers_.find(fd); peer != peers_.end() && peer->second->unsent) {
      flush();
    }
    ready_.pop_back();
  }
  return Result::kBusy;
}

}  // namespace hv::net
