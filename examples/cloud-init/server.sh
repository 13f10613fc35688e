#!/bin/sh
# Fills server.yaml in, starts the server, and waits until its cloud-init has done what it was told. Run
# again it changes nothing. The disk is written to: give it a copy of an image.
set -eu
: "${KERNEL:?a Linux kernel}" "${INITRD:?its initial RAM disk}" "${DISK:?a disk with cloud-init}"
: "${KEY:?a public ssh key, as in authorized_keys}" "${LIMIT:=300}"
here=$(cd "$(dirname "$0")" && pwd)
xhyvectl=${XHYVECTL:-xhyvectl}

sed -e "s|KERNEL|$KERNEL|; s|INITRD|$INITRD|; s|DISK|$DISK|; s|\"KEY\"|\"$KEY\"|" "$here/server.yaml" |
  "$xhyvectl" apply -f -
"$xhyvectl" wait web-1 ready --timeout "$LIMIT"
