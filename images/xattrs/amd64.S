# Restores extended attributes on a node: lsetxattr(2) for each record of /.bootsvc/xattrs. Linux x86-64.
# A record is PATH\0 NAME\0, the value's size (32 bits, little-endian), the value. Ends with the number of records that
# could not be set (255 at most), or 255 when the file cannot be read.
        .globl  _start
_start:
        lea     file(%rip), %rdi
        xor     %esi, %esi              # O_RDONLY
        mov     $2, %eax                # open
        syscall
        test    %eax, %eax
        js      unreadable
        mov     %eax, %edi
        mov     %eax, %r8d              # mmap's descriptor
        xor     %esi, %esi
        mov     $2, %edx                # SEEK_END
        mov     $8, %eax                # lseek: the size
        syscall
        mov     %rax, %rsi
        mov     %rax, %r12
        xor     %edi, %edi
        mov     $1, %edx                # PROT_READ
        mov     $2, %r10d               # MAP_PRIVATE
        xor     %r9d, %r9d
        mov     $9, %eax                # mmap
        syscall
        test    %rax, %rax
        js      unreadable
        mov     %rax, %rbx              # where we are
        add     %rax, %r12              # the end
        xor     %ebp, %ebp              # failures
record:
        cmp     %r12, %rbx
        jae     done
        mov     %rbx, %rdi              # path
        call    skip
        mov     %rbx, %rsi              # name
        call    skip
        mov     (%rbx), %r10d           # size
        add     $4, %rbx
        mov     %rbx, %rdx              # value
        add     %r10, %rbx
        xor     %r8d, %r8d              # flags
        mov     $189, %eax              # lsetxattr
        syscall
        test    %eax, %eax
        jns     record
        inc     %ebp
        jmp     record
skip:                                   # to the byte after the next NUL
        cmpb    $0, (%rbx)
        lea     1(%rbx), %rbx
        jne     skip
        ret
unreadable:
        mov     $255, %ebp
done:
        mov     $255, %edi
        cmp     %edi, %ebp
        cmovb   %ebp, %edi
        mov     $60, %eax               # exit
        syscall
file:   .asciz  "/.bootsvc/xattrs"
