#include "net/frame.h"

#include <algorithm>
#include <cstring>

namespace hv::net {

std::size_t gather(std::span<const iovec> pieces, std::size_t from, std::span<std::uint8_t> out) {
  std::size_t done = 0;
  for (const iovec& piece : pieces) {
    if (done == out.size()) break;
    if (from >= piece.iov_len) {
      from -= piece.iov_len;
      continue;
    }
    const std::size_t part = std::min(piece.iov_len - from, out.size() - done);
    std::memcpy(out.data() + done, static_cast<const std::uint8_t*>(piece.iov_base) + from, part);
    done += part;
    from = 0;
  }
  return done;
}

std::size_t scatter(std::span<const std::uint8_t> bytes, std::span<const iovec> room) {
  std::size_t done = 0;
  for (const iovec& piece : room) {
    if (done == bytes.size()) break;
    const std::size_t part = std::min(piece.iov_len, bytes.size() - done);
    std::memcpy(piece.iov_base, bytes.data() + done, part);
    done += part;
  }
  return done;
}

std::size_t total(std::span<const iovec> pieces) {
  std::size_t sum = 0;
  for (const iovec& piece : pieces) sum += piece.iov_len;
  return sum;
}

}  // namespace hv::net
