// Entry of a 32-bit guest (Multiboot 1: protected mode, flat segments, no paging), its tables and
// its exception stubs.
#include "multiboot.h"

        MULTIBOOT_HEADER

        .text
        .globl  _start
_start: cli
        cld
        movl    $boot_stack_top, %esp
        lgdt    gdt_pointer
        ljmp    $0x08, $1f
1:      movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        pushl   $2
        popfl
        call    start_c

        EXCEPTION_STUBS

common: pushal
        pushl   %ds
        pushl   %es
        pushl   %fs
        pushl   %gs
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        cld
        movl    %esp, %eax
        pushl   %eax
        call    exception
        popl    %eax
        popl    %gs
        popl    %fs
        popl    %es
        popl    %ds
        popal
        addl    $8, %esp
        iretl

// attempt(fn): calls fn; comes back in any case.
        .globl  attempt
attempt:
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        movl    20(%esp), %eax
        movl    %esp, recovery
        movl    $-1, last
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        call    *%eax
        movl    %eax, last_ax
        .globl  recover
recover:
        movl    $0x10, %ecx
        movl    %ecx, %ds
        movl    %ecx, %es
        movl    %ecx, %ss
        movl    recovery, %esp
        movl    $0, recovery
        xorl    %ecx, %ecx
        movl    %ecx, %fs
        movl    %ecx, %gs
        pushl   $2
        popfl
        popl    %edi
        popl    %esi
        popl    %ebx
        popl    %ebp
        ret

// attempt_user(fn): at ring 3, as user_code and user_flags say.
        .globl  attempt_user
attempt_user:
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        movl    20(%esp), %eax
        movl    %esp, recovery
        movl    $-1, last
        movl    user_stack_top, %ebx
        subl    $4, %ebx
        movl    $user_exit, (%ebx)
        pushl   $0x23
        pushl   %ebx
        pushl   user_flags
        pushl   user_code
        pushl   %eax
        movl    $0x23, %ecx
        movl    %ecx, %ds
        movl    %ecx, %es
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        iretl
        .globl  user_exit
user_exit:
        int     $0x60

        .data
        .balign 16
        .globl  gdt
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      // 08 code
        .quad   0x00cf93000000ffff      // 10 data
        .quad   0x00cffb000000ffff      // 1b user code
        .quad   0x00cff3000000ffff      // 23 user data
        .quad   0, 0, 0                 // 28, 30 TSS, 38
        .quad   0                       // 40
        .quad   0x00009b000000ffff      // 48 code of 16 bits
        .quad   0x000093000000ffff      // 50 data of 16 bits
        .fill   64 - 11, 8, 0
gdt_pointer:
        .word   64 * 8 - 1
        .long   gdt
        .set    last_ax, last + 28
        .globl  recovery
recovery: .long 0

        .bss
        .balign 16
        .globl  idt, tss, exception_stack_top
idt:    .skip   256 * 8
tss:    .skip   256 + 8192 + 16
        .balign 16
        .skip   8192
exception_stack_top:
        .skip   16384
boot_stack_top:
