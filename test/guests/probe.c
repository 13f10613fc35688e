// The least that a machine must do to be a witness: exceptions at both rings, and a page fault.
#include "guest.h"
SNIPPET(returns, "mov $0x1234,%eax\nret");
SNIPPET(undefined, "nop\nud2\nret");
SNIPPET(halts, "hlt\nret");

void guest(void) {
  report("probe.kernel", returns);
  report("probe.kernel-ud", undefined);
  report_user("probe.user", returns);
  report_user("probe.user-ud", undefined);
  report_user("probe.user-hlt", halts);
}
