/* SPDX-License-Identifier: GPL-2.0-only
 *
 * PV 64-bit entry.  Xen starts vCPU 0 at pv_entry, in long mode, flat segments, ring 3, with %rsi = start_info;
 * vCPU 0 starts the others at pv_secondary_entry with %rdi = vCPU number and their own stack.
 */
#include <xen/elfnote.h>

        .section .text.entry, "ax", @progbits
        .globl  pv_entry
        .type   pv_entry, @function
pv_entry:
        cld
        lea     vcpu0_stack_end(%rip), %rsp
        xor     %ebp, %ebp
        mov     %rsi, %rdi
        call    platform_main
        ud2
        .size   pv_entry, . - pv_entry

        .globl  pv_secondary_entry
        .type   pv_secondary_entry, @function
pv_secondary_entry:
        xor     %ebp, %ebp
        call    platform_secondary
        ud2
        .size   pv_secondary_entry, . - pv_secondary_entry

        .balign 4096
        .globl  hypercall_page
hypercall_page:
        .skip   4096, 0xcc

        .section .bss.stack, "aw", @nobits
        .balign 16
        .skip   8192
vcpu0_stack_end:

        .macro  note type:req, desc:vararg
        .balign 4
        .long   4, 3f - 2f, \type
        .asciz  "Xen"
2:      \desc
3:      .balign 4
        .endm

        .section .note.Xen, "a", @note
        note    XEN_ELFNOTE_GUEST_OS,       .asciz "nemesis"
        note    XEN_ELFNOTE_GUEST_VERSION,  .asciz "1"
        note    XEN_ELFNOTE_LOADER,         .asciz "generic"
        note    XEN_ELFNOTE_XEN_VERSION,    .asciz "xen-3.0"
        note    XEN_ELFNOTE_VIRT_BASE,      .quad 0
        note    XEN_ELFNOTE_PADDR_OFFSET,   .quad 0
        note    XEN_ELFNOTE_ENTRY,          .quad pv_entry
        note    XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page
        note    XEN_ELFNOTE_PAE_MODE,       .asciz "yes"
        note    XEN_ELFNOTE_FEATURES,       .asciz "pae_pgdir_above_4gb"

        .section .note.GNU-stack, "", @progbits
