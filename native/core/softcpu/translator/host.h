// Whether this build has the translator: it makes x86-64 code by System V's calling convention and
// needs Linux's memfd. Elsewhere its sources are empty and the interpreter works alone.
#pragma once

#if defined(HV_TRANSLATOR)
// Chosen by whoever compiles.
#elif defined(__x86_64__) && defined(__linux__)
#define HV_TRANSLATOR 1
#else
#define HV_TRANSLATOR 0
#endif
