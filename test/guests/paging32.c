#include "guest.h"
SNIPPET(nop_, "mov $0x1234,%eax\nret");
SNIPPET(ud_, "nop\nud2\nret");
void guest(void) {
  report("a.nop", nop_);
  report("a.ud", ud_);
  report_user("a.unop", nop_);
  report_user("a.uud", ud_);
}
