/* SPDX-License-Identifier: GPL-2.0-only
 *
 * PVH entry (docs/misc/pvh.pandoc in Xen).  vCPU 0 starts at pvh_entry in 32-bit protected mode, flat segments, paging off;
 * it makes page tables, and goes on in long mode.  It starts the others at pvh_secondary_entry, in long mode already, with
 * %rdi = vCPU number and their own stack.
 */
#include <xen/elfnote.h>

#define PRESENT_WRITABLE        0x03
#define PRESENT_WRITABLE_LARGE  0x83
#define CR0_PG                  0x80000000
#define CR4_PAE                 0x20
#define MSR_EFER                0xc0000080
#define EFER_LME                0x100
#define CODE64                  0x08
#define DATA                    0x10

        .section .text.entry, "ax", @progbits
        .code32
        .globl  pvh_entry
        .type   pvh_entry, @function
pvh_entry:
        cld
        /* 512 entries of 2 MiB: 1 GiB, one to one. */
        mov     $page_directory, %edi
        mov     $PRESENT_WRITABLE_LARGE, %eax
        mov     $512, %ecx
1:      mov     %eax, (%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    1b
        movl    $page_directory + PRESENT_WRITABLE, page_directory_pointers
        movl    $page_directory_pointers + PRESENT_WRITABLE, page_map_level4

        mov     $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     $page_map_level4, %eax
        mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        rdmsr
        or      $EFER_LME, %eax
        wrmsr
        mov     %cr0, %eax
        or      $CR0_PG, %eax
        mov     %eax, %cr0
        lgdt    descriptors_pointer
        ljmp    $CODE64, $2f

        .code64
2:      mov     $DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        lea     vcpu0_stack_end(%rip), %rsp
        xor     %ebp, %ebp
        call    platform_main
        ud2
        .size   pvh_entry, . - pvh_entry

        .globl  pvh_secondary_entry
        .type   pvh_secondary_entry, @function
pvh_secondary_entry:
        xor     %ebp, %ebp
        call    platform_secondary
        ud2
        .size   pvh_secondary_entry, . - pvh_secondary_entry

        .balign 8
descriptors:
        .quad   0
        .quad   0x00af9b000000ffff      /* CODE64 */
        .quad   0x00cf93000000ffff      /* DATA   */
descriptors_pointer:
        .word   . - descriptors - 1
        .long   descriptors

        .section .bss.pages, "aw", @nobits
        .balign 4096
        .globl  hypercall_page
hypercall_page:
        .skip   4096
        .globl  page_map_level4
page_map_level4:
        .skip   4096
page_directory_pointers:
        .skip   4096
page_directory:
        .skip   4096

        .section .bss.stack, "aw", @nobits
        .balign 16
        .skip   8192
vcpu0_stack_end:

        .section .note.Xen, "a", @note
        .balign 4
        .long   4, 4f - 3f, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz  "Xen"
3:      .quad   pvh_entry
4:      .balign 4

        .section .note.GNU-stack, "", @progbits
