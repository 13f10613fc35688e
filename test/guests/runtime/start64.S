// Entry of a 64-bit guest: from Multiboot's 32-bit state to long mode with the first GiB mapped
// one to one, open to ring 3; then as start32.S.
#include "multiboot.h"

        MULTIBOOT_HEADER

        .text
        .code32
        .globl  _start
_start: cli
        cld
        movl    $boot_stack_top, %esp
        lgdt    gdt_pointer
        movl    $boot_pml4, %edi
        leal    boot_pdpt - boot_pml4 + 7(%edi), %eax
        movl    %eax, (%edi)
        leal    boot_pd - boot_pml4 + 7(%edi), %eax
        movl    %eax, boot_pdpt - boot_pml4(%edi)
        movl    $0x87, %eax
        xorl    %ecx, %ecx
1:      movl    %eax, boot_pd(,%ecx,8)
        addl    $0x200000, %eax
        incl    %ecx
        cmpl    $512, %ecx
        jb      1b
        leal    boot_pd_high - boot_pml4 + 7(%edi), %eax
        movl    %eax, boot_pdpt - boot_pml4 + 24(%edi)
        movl    $0xfee00093, boot_pd_high + 0xfb8   // the local APIC, uncached
        movl    $0xfec00093, boot_pd_high + 0xfb0
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        movl    %edi, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        ljmp    $0x08, $2f
        .code64
2:      movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        movl    $boot_stack_top, %esp
        pushq   $2
        popfq
        call    start_c

        EXCEPTION_STUBS

common: pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rbx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        cld
        movq    %rsp, %rdi
        movq    %rsp, %rbp
        andq    $-16, %rsp
        call    exception
        movq    %rbp, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rbp
        popq    %rbx
        popq    %rdx
        popq    %rcx
        popq    %rax
        addq    $16, %rsp
        iretq

        .globl  attempt
attempt:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, recovery
        movq    $-1, last
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        call    *%rdi
        movq    %rax, last_ax
        .globl  recover
recover:
        movl    $0x10, %ecx
        movl    %ecx, %ds
        movl    %ecx, %es
        movl    %ecx, %ss
        movq    recovery, %rsp
        movq    $0, recovery
        pushq   $2
        popfq
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret

        .globl  attempt_user
attempt_user:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, recovery
        movq    $-1, last
        movq    user_stack_top, %rbx
        subq    $8, %rbx
        movq    $user_exit, (%rbx)
        pushq   $0x23
        pushq   %rbx
        pushq   user_flags
        pushq   user_code
        pushq   %rdi
        movl    $0x23, %ecx
        movl    %ecx, %ds
        movl    %ecx, %es
        xorl    %ecx, %ecx
        xorl    %edx, %edx
        iretq
        .globl  user_exit
user_exit:
        int     $0x60

        .data
        .balign 16
        .globl  gdt
gdt:    .quad   0
        .quad   0x00af9b000000ffff      // 08 code of 64 bits
        .quad   0x00cf93000000ffff      // 10 data
        .quad   0x00cffb000000ffff      // 1b user code of 32 bits
        .quad   0x00cff3000000ffff      // 23 user data
        .quad   0x00affb000000ffff      // 2b user code of 64 bits
        .quad   0, 0                    // 30 TSS
        .quad   0x00cf9b000000ffff      // 40 code of 32 bits
        .quad   0x00009b000000ffff      // 48 code of 16 bits
        .quad   0x000093000000ffff      // 50 data of 16 bits
        .fill   64 - 11, 8, 0
gdt_pointer:
        .word   64 * 8 - 1
        .quad   gdt
        .set    last_ax, last + 56
        .globl  recovery
recovery: .quad 0

        .bss
        .balign 4096
        .globl  idt, tss, exception_stack_top, boot_pml4, boot_pdpt, boot_pd
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd: .skip  4096
boot_pd_high: .skip 4096
idt:    .skip   256 * 16
tss:    .skip   256 + 8192 + 16
        .balign 16
        .skip   8192
exception_stack_top:
        .skip   16384
boot_stack_top:
