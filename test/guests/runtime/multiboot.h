// What the two entries share. Multiboot Specification 0.6.96, "OS image format".
#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_HEADER                        \
        .section .multiboot, "a";               \
        .balign 4;                              \
        .long   MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC;

// 256 entries of 16 bytes: an error code where the CPU pushes none, the vector, common.
#define EXCEPTION_STUBS                                                 \
        .balign 16;                                                     \
        .globl  stubs;                                                  \
stubs:  .set    vector, 0;                                              \
        .rept   256;                                                    \
        .balign 16;                                                     \
        .if     !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17); \
        push    $0;                                                     \
        .endif;                                                         \
        push    $vector;                                                \
        jmp     common;                                                 \
        .set    vector, vector + 1;                                     \
        .endr;                                                          \
        .balign 16;
