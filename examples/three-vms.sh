#!/bin/sh
# Three VMs with curl alone, idempotently: PUT says what each should be, and the same again changes
# nothing. KERNEL (and INITRD) are paths on the daemon's host; SOCKET is the daemon's.
set -eu
SOCKET=${SOCKET:-/run/xhyved/xhyved.sock}
: "${KERNEL:?name a kernel}"
initrd=${INITRD:+", \"initrd\": \"$INITRD\""}

api() { # METHOD PATH [BODY]: the answer's status on the last line
  curl -sS --unix-socket "$SOCKET" -X "$1" "http://localhost/v1$2" \
    -H 'content-type: application/json' ${3:+-d "$3"} -w '\n%{http_code}\n'
}

for name in web-1 web-2 db-1; do
  answer=$(api PUT "/vms/$name" '{
    "name": "'"$name"'", "memory": 268435456, "power": "running",
    "labels": {"tier": "'"${name%-*}"'"}, "restart": {"policy": "on-failure"},
    "boot": {"kind": "linux", "kernel": "'"$KERNEL"'"'"$initrd"', "cmdline": "console=ttyS0"}
  }')
  case ${answer##*
} in
    201) echo "$name: created" ;;
    200) echo "$name: as it should be" ;;
    *) echo "$name: $answer" >&2; exit 1 ;;
  esac
done
