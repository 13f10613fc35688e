# The conformance suite's guests: freestanding code that every accelerator must run alike. Each
# symbol is one guest; it is loaded at 0x10000 unless its test says otherwise, is position
# independent, and ends with HLT. Data lies at 0x20000, the fake device at 0xd0000000.
# `node native/test/conformance/assemble.mjs` turns this into guests.inc, which is checked in.
.intel_syntax noprefix
.set DATA, 0x20000
.set DEVICE, 0xd0000000

.code64
ports:
    mov dx, 0x180
    mov al, 0x11
    out dx, al
    mov ax, 0x2233
    out dx, ax
    mov eax, 0x44556677
    out dx, eax
    out 0x81, al
    out 0x82, ax
    out 0x83, eax
    mov rax, -1
    in al, dx
    mov r8, rax
    mov rax, -1
    in ax, dx
    mov r9, rax
    mov rax, -1
    in eax, dx
    mov r10, rax
    in al, 0x84
    mov r11, rax
    hlt

port_strings:
    mov dx, 0x180
    mov esi, DATA
    mov ecx, 5
    cld
    rep outsb
    mov ecx, 3
    rep outsw
    mov ecx, 3
    rep outsd
    outsb
    mov edi, DATA + 0x100
    mov ecx, 5
    rep insb
    mov ecx, 3
    rep insw
    mov ecx, 3
    rep insd
    insb
    std
    mov edi, DATA + 0x203
    mov ecx, 4
    rep insb
    cld
    hlt

# More than a page at once: the host may cut it, the guest must not see where.
port_long_string:
    mov dx, 0x180
    mov edi, DATA + 0xff0
    mov ecx, 0x1800
    cld
    rep insb
    mov esi, DATA + 0xff0
    mov ecx, 0x1800
    rep outsb
    hlt

mmio_moves:
    mov ebx, DEVICE
    mov ecx, 2
    movabs rax, 0x1122334455667788
    mov [rbx], rax
    mov [rbx + 8], eax
    mov [rbx + 12], ax
    mov [rbx + 14], al
    mov [rbx + 15], ah
    mov qword ptr [rbx + rcx*8], 0x12345678
    mov dword ptr [rbx + rcx*4 + 16], -2
    mov word ptr [rbx + rcx*2 + 24], 0x5aa5
    mov byte ptr [rbx + 30], 0x7f
    mov r8, [rbx]
    mov r9d, [rbx + 8]
    mov rax, -1
    mov ax, [rbx + 12]
    mov r10, rax
    mov rax, -1
    mov al, [rbx + 15]
    mov r11, rax
    movzx r12, byte ptr [rbx + 15]
    movsx r13, byte ptr [rbx + 7]
    movsx r14, word ptr [rbx + 24]
    movsxd r15, dword ptr [rbx + 24]
    movzx esi, word ptr [rbx + 28]
    hlt

mmio_arithmetic:
    mov ebx, DEVICE
    mov eax, 0x10
    mov qword ptr [rbx], 5
    add [rbx], rax
    sub dword ptr [rbx], 3
    or byte ptr [rbx + 1], 0x40
    and word ptr [rbx], 0xfff2
    xor dword ptr [rbx + 4], -1
    inc byte ptr [rbx + 8]
    dec word ptr [rbx + 10]
    not dword ptr [rbx + 12]
    neg byte ptr [rbx + 8]
    shl qword ptr [rbx], 4
    mov ecx, 0x77
    xchg [rbx + 16], ecx
    mov r8, rcx
    mov edx, 9
    lock xadd [rbx + 16], edx
    mov r9, rdx
    mov eax, 0x80
    mov ecx, 0x1234
    lock cmpxchg [rbx + 16], ecx
    sete r10b
    movzx r10, r10b
    cmp dword ptr [rbx + 16], 0x1234
    sete r11b
    movzx r11, r11b
    test byte ptr [rbx + 16], 4
    setnz r12b
    movzx r12, r12b
    bts dword ptr [rbx + 20], 3
    push qword ptr [rbx]
    pop r13
    push 0x42
    pop qword ptr [rbx + 24]
    hlt

mmio_strings:
    mov esi, DATA
    mov edi, DEVICE
    mov ecx, 4
    cld
    rep movsq
    mov esi, DEVICE
    mov edi, DATA + 0x100
    mov ecx, 32
    rep movsb
    mov edi, DEVICE + 32
    mov eax, 0xa5a55a5a
    mov ecx, 3
    rep stosd
    mov esi, DEVICE + 32
    lodsw
    mov r8, rax
    mov edi, DEVICE
    mov al, 0x13
    mov ecx, 32
    repne scasb
    mov r9, rcx
    hlt

mmio_vector:
    mov esi, DATA
    mov edi, DEVICE
    movdqu xmm0, [rsi]
    movups [rdi], xmm0
    movdqu xmm1, [rdi]
    movaps [rsi + 0x100], xmm1
    movq xmm2, qword ptr [rdi + 8]
    movq r8, xmm2
    movd xmm3, dword ptr [rdi + 4]
    movd r9d, xmm3
    hlt

# An access that reaches from RAM into nothing: RAM ends at 4 MiB.
mmio_edge:
    mov ebx, 0x3ffffc
    movabs rax, 0x8877665544332211
    mov [rbx], rax
    mov r8, [rbx]
    hlt

# RDMSR of ecx, and WRMSR of edx:eax to it first where r8 is set.
msr:
    test r8, r8
    jz 1f
    wrmsr
1:  xor eax, eax
    xor edx, edx
    rdmsr
    hlt

# Writes the count of leaves that DATA lists (leaf, subleaf), and their answers to DATA + 0x400.
cpuid_list:
    mov esi, DATA
    mov edi, DATA + 0x400
    mov r8d, [rsi]
    add esi, 4
1:  mov eax, [rsi]
    mov ecx, [rsi + 4]
    add esi, 8
    cpuid
    mov [rdi], eax
    mov [rdi + 4], ebx
    mov [rdi + 8], ecx
    mov [rdi + 12], edx
    add edi, 16
    dec r8d
    jnz 1b
    hlt

# Handlers count: DATA + 8 * n.
count_0:
    inc qword ptr [DATA]
    iretq
count_1:
    inc qword ptr [DATA + 8]
    iretq
# An NMI handler that asks for another (port 0x190) and sees that it waits.
nmi_nested:
    inc qword ptr [DATA + 8]
    cmp qword ptr [DATA + 8], 1
    jne 1f
    mov al, 1
    out 0x90, al
    nop
    nop
    mov rax, [DATA + 8]
    mov [DATA + 16], rax
1:  iretq

halt_and_wake:
    sti
    hlt
    inc qword ptr [DATA + 16]
    hlt
    inc qword ptr [DATA + 16]
    cli
    hlt

# The interrupt is raised by the OUT while IF is off, and must come behind the instruction after STI.
# The window is long, since a KVM that emulates looks at interrupts only now and then.
window:
    cli
    mov al, 1
    out 0x90, al
    mov ecx, 20
1:  dec ecx
    jnz 1b
    mov rax, [DATA]
    mov [DATA + 16], rax
    sti
    mov rbx, [DATA]
    mov r8d, 8000
2:  dec r8d
    jnz 2b
    mov rdx, [DATA]
    cli
    hlt

# MOV SS holds interrupts for one instruction.
shadow_mov_ss:
    mov ecx, ss
    mov al, 1
    mov r9, 0
    cli
    out 0x90, al
    sti
    mov ss, ecx
    mov rbx, [DATA]
    mov r8d, 8000
2:  dec r8d
    jnz 2b
    mov rdx, [DATA]
    cli
    hlt

ask_and_go_on:
    mov al, 1
    out 0x90, al
    nop
    nop
    nop
1:  hlt
    jmp 1b

task_priority:
    mov eax, 9
    mov cr8, rax
    xor eax, eax
    mov rax, cr8
    mov r8, rax
    mov eax, 3
    mov cr8, rax
    mov rax, cr8
    mov r9, rax
    hlt

divide_by_zero:
    xor ecx, ecx
    div ecx
breakpoint:
    int3
undefined:
    ud2
software_interrupt:
    int 0x55
protection:
    mov eax, 0x1238
    mov ds, eax
page_fault:
    movabs rax, 0x4000001000
    mov ebx, [rax]
page_fault_write:
    movabs rax, 0x4000001000
    mov byte ptr [rax], 1
single_step:
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    nop
    hlt
non_canonical:
    movabs rax, 0x8000000000000000
    mov rbx, [rax]
x87_disabled:
    mov rax, cr0
    or eax, 8
    mov cr0, rax
    fld1
triple_fault:
    push 0
    push 0
    lidt [rsp]
    ud2

# Outs a running number to 0x180; R8 times.
count_out:
    xor eax, eax
    mov dx, 0x180
1:  out dx, eax
    inc eax
    cmp eax, r8d
    jne 1b
    hlt

# Only the CPU's own work: kicks come at any instruction. R8 turns; the sum in RAX.
spin_sum:
    xor eax, eax
1:  imul rax, rax, 31
    add rax, r8
    dec r8
    jnz 1b
    hlt

# Every kind of state goes through an OUT in each turn, where the test may move it elsewhere.
mover:
    mov r15d, 16
    fninit
    fld1
    fldpi
    pcmpeqd xmm5, xmm5
    movq xmm6, r15
    mov ecx, 0xc0000102
    xor edx, edx
    mov eax, 0x1000
    wrmsr
    mov rax, 0x123
    mov dr1, rax
1:  fadd st(0), st(1)
    paddq xmm6, xmm5
    mov ecx, 0xc0000102
    rdmsr
    add eax, 1
    wrmsr
    mov rax, dr1
    add rax, 5
    mov dr1, rax
    push r15
    stc
    mov eax, r15d
    out 0x80, al
    setc r14b
    movzx r14, r14b
    add r13, r14
    pop rbx
    add r12, rbx
    dec r15d
    jnz 1b
    movq r8, xmm6
    movq r9, xmm5
    mov rax, dr1
    mov r10, rax
    mov ecx, 0xc0000102
    rdmsr
    mov r11, rax
    fstp qword ptr [DATA]
    fistp qword ptr [DATA + 8]
    hlt

# --- with the machine's own chips -----------------------------------------------------------

.set APIC, 0xfee00000
# INIT, SIPI, SIPI to APIC id 1; waits for its mark, sends it an interrupt, waits for its count.
start_second:
    mov ebx, APIC
    mov dword ptr [rbx + 0xf0], 0x1ff
    mov dword ptr [rbx + 0x310], 0x01000000
    mov dword ptr [rbx + 0x300], 0x00004500
    mov dword ptr [rbx + 0x310], 0x01000000
    mov dword ptr [rbx + 0x300], 0x00004608
    mov dword ptr [rbx + 0x310], 0x01000000
    mov dword ptr [rbx + 0x300], 0x00004608
1:  pause
    cmp dword ptr [DATA], 0x600d
    jne 1b
    mov dword ptr [rbx + 0x310], 0x01000000
    mov dword ptr [rbx + 0x300], 0x00004040
2:  pause
    cmp dword ptr [DATA + 4], 1
    jne 2b
    cli
    hlt

# One shot of the local APIC's timer, then the TSC deadline, each waking a HLT.
timers:
    mov ebx, APIC
    mov dword ptr [rbx + 0xf0], 0x1ff
    mov dword ptr [rbx + 0x320], 0x40
    mov dword ptr [rbx + 0x3e0], 0xb
    mov dword ptr [rbx + 0x380], 25000
    sti
    hlt
    cli
    mov rax, [DATA + 8]
    mov [DATA + 16], rax
    mov dword ptr [rbx + 0x320], 0x40040
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov r8, rax
    add rax, 5000000
    mov r9, rax
    mov rdx, rax
    shr rdx, 32
    mov ecx, 0x6e0
    wrmsr
    sti
    hlt
    cli
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov r10, rax
    hlt
# A handler that ends the interrupt at the local APIC.
count_eoi:
    inc qword ptr [DATA + 8]
    push rax
    mov eax, APIC
    mov dword ptr [rax + 0xb0], 0
    pop rax
    iretq

forever:
    inc qword ptr [DATA]
    jmp forever

# Stores of every kind to pages from 0x100000 on, and to its own; what is only read, and the device,
# get none.
dirty_pages:
    mov ebx, 0x100000
    mov byte ptr [rbx], 1
    mov rax, [rbx + 0x1000]
    mov qword ptr [rbx + 0x2ffc], -1
    lock inc dword ptr [rbx + 0x4010]
    movups [rbx + 0x5000], xmm0
    lea rdi, [rbx + 0x6ff0]
    mov ecx, 0x1020
    rep stosb
    lea rsp, [rbx + 0xb000]
    push rax
    mov dx, 0x180
    lea rdi, [rbx + 0xc000]
    insb
    fld1
    fstp qword ptr [rbx + 0xd000]
    mov eax, DEVICE
    mov [rax], eax
    inc byte ptr [rip + 1f]
    hlt
1:  .byte 0

# The time-stamp counter, over and over, in one store: a pause never sees half of it.
counter:
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov [DATA], rax
    jmp counter

# Fills all that software can fill of a CPU, writes it down at DATA + 0x1000, waits for [DATA + 0x10]
# with an interrupt pending and the local APIC's timer running, writes it down again at DATA + 0x2000,
# and lets both interrupts come. Both of its halves are one page each.
.macro set_msr index, high, low
    mov ecx, \index
    mov edx, \high
    mov eax, \low
    wrmsr
.endm
.macro get_msr index
    mov ecx, \index
    rdmsr
    stosd
    mov eax, edx
    stosd
.endm
everything:
    lgdt [rip + everything_gdt]
    mov eax, 0x10
    mov ss, eax
    mov es, eax
    mov eax, 0x18
    ltr ax
    mov eax, 0x28
    lldt ax
    set_msr 0x174, 0, 0x33
    set_msr 0x175, 0xffff8123, 0x1000
    set_msr 0x176, 0xffff8123, 0x2000
    set_msr 0x277, 0x00070106, 0x00070406
    set_msr 0x2ff, 0, 0x806
    set_msr 0xc0000081, 0x00230010, 0
    set_msr 0xc0000082, 0xffff8abc, 0x3000
    set_msr 0xc0000083, 0xffff8abc, 0x4000
    set_msr 0xc0000084, 0, 0x47700
    set_msr 0xc0000100, 0x7fff, 0x5000
    set_msr 0xc0000101, 0xffff9000, 0x6000
    set_msr 0xc0000102, 0x7ffe, 0x7000
    set_msr 0xc0000103, 0, 0x2a
    mov eax, 0x12345678
    mov cr2, rax
    mov dr0, rax
    inc rax
    mov dr1, rax
    inc rax
    mov dr2, rax
    inc rax
    mov dr3, rax
    mov eax, 0x400
    mov dr7, rax
    mov eax, 3
    mov cr8, rax
    fninit
    push 0x27f
    fldcw [rsp]
    mov dword ptr [rsp], 0x7fa0
    ldmxcsr [rsp]
    pop rax
    fldpi
    fld1
    fldl2e
    fldz
    pcmpeqd xmm0, xmm0
    movq xmm1, rsp
    movsd xmm15, xmm0
    mov r8, -2
    mov r9, 0x0909090909090909
    mov r15, 0x1515151515151515
    mov ebx, APIC
    mov dword ptr [rbx + 0xf0], 0x1ff
    mov dword ptr [rbx + 0x310], 0
    mov dword ptr [rbx + 0x300], 0x40
    mov dword ptr [rbx + 0x320], 0x41
    mov dword ptr [rbx + 0x3e0], 0xb
    mov dword ptr [rbx + 0x380], 500000
    mov edi, DATA + 0x1000
    call everything_dump
    mov qword ptr [DATA], 1
1:  pause
    cmp qword ptr [DATA + 0x10], 0
    je 1b
    mov edi, DATA + 0x2000
    call everything_dump
    xor eax, eax
    mov cr8, rax
    sti
1:  pause
    cmp qword ptr [DATA + 8], 2
    jb 1b
    cli
    hlt
everything_gdt:
    .word 0x37
    .quad 0x9000
everything_dump:
    xor eax, eax
    pushfq
    pop rax
    stosq
    mov rax, cr0
    stosq
    mov rax, cr2
    stosq
    mov rax, cr3
    stosq
    mov rax, cr4
    stosq
    mov rax, cr8
    stosq
    mov rax, dr0
    stosq
    mov rax, dr1
    stosq
    mov rax, dr2
    stosq
    mov rax, dr3
    stosq
    mov rax, dr6
    stosq
    mov rax, dr7
    stosq
    mov rax, r8
    stosq
    mov rax, r9
    stosq
    mov rax, r15
    stosq
    mov rax, rsp
    stosq
    get_msr 0x174
    get_msr 0x175
    get_msr 0x176
    get_msr 0x1b
    get_msr 0x277
    get_msr 0x2ff
    get_msr 0xc0000080
    get_msr 0xc0000081
    get_msr 0xc0000082
    get_msr 0xc0000083
    get_msr 0xc0000084
    get_msr 0xc0000100
    get_msr 0xc0000101
    get_msr 0xc0000102
    get_msr 0xc0000103
    sgdt [rdi]
    sidt [rdi + 0x10]
    str [rdi + 0x20]
    sldt [rdi + 0x22]
    mov [rdi + 0x24], ss
    mov [rdi + 0x26], cs
    lea rdi, [rdi + 0x11f]
    and rdi, -16
    fxsave64 [rdi]
    xor eax, eax
    mov [rdi + 6], ax
    mov [rdi + 8], rax
    mov [rdi + 16], rax
    mov [rdi + 28], eax
    ret

.code16
# At 0x8000: the second vCPU. Marks, then counts one interrupt with a vector table of its own.
second:
    cli
    mov ax, 0x2000
    mov ds, ax
    xor ax, ax
    mov es, ax
    mov word ptr es:[0x40 * 4], 0x8100
    mov word ptr es:[0x40 * 4 + 2], 0
    mov ss, ax
    mov sp, 0x7ff0
    # The APIC's register page lies above what real mode reaches: x2APIC, and MSRs.
    mov ecx, 0x1b
    rdmsr
    or ah, 0x0c
    wrmsr
    mov ecx, 0x80f
    mov eax, 0x1ff
    xor edx, edx
    wrmsr
    sti
    mov word ptr ds:[0], 0x600d
1:  hlt
    jmp 1b
# At 0x8100.
second_handler:
    inc word ptr ds:[4]
    mov ecx, 0x80b
    xor eax, eax
    xor edx, edx
    wrmsr
    iret

.code64
# KVM's clock (Linux, Documentation/virt/kvm/x86/msr.rst): registers a page and asks for the wall clock;
# reads 4096 times, the first and the last with the counter to DATA + 0x40; then reads for ever, to
# DATA + 8, and counts.
.set CLOCK, DATA + 0x1000
.set WALL, DATA + 0x1100
kvm_clock:
    mov ecx, 0x4b564d00
    mov eax, WALL
    xor edx, edx
    wrmsr
    mov ecx, 0x4b564d01
    mov eax, CLOCK + 1
    xor edx, edx
    wrmsr
    mov edi, DATA
    mov esi, CLOCK
    call kvm_clock_read
    mov [rdi + 0x40], r9
    mov [rdi + 0x48], rax
    mov ebx, 4095
1:  call kvm_clock_read
    dec ebx
    jnz 1b
    mov [rdi + 0x50], r9
    mov [rdi + 0x58], rax
2:  call kvm_clock_read
    mov [rdi + 8], rax
    inc qword ptr [rdi]
    jmp 2b
kvm_clock_read:
    mov r8d, [rsi]
    test r8d, 1
    jnz kvm_clock_read
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov r9, rax
    sub rax, [rsi + 8]
    movsx ecx, byte ptr [rsi + 28]
    test ecx, ecx
    js 1f
    shl rax, cl
    jmp 2f
1:  neg ecx
    shr rax, cl
2:  mov r10d, [rsi + 24]
    mul r10
    shrd rax, rdx, 32
    add rax, [rsi + 16]
    cmp r8d, [rsi]
    jne kvm_clock_read
    ret
.code16
real_mode:
    mov ax, 0x1234
    mov bx, 0x10
    mov ds:[bx], ax
    mov al, ds:[0x11]
    out 0x80, al
    push ax
    call 1f
    hlt
1:  pop cx
    push cx
    mov dx, sp
    ret
the_end:
