"""A program of a few system calls for restored guests: renews clock, random numbers and the disk's UUID.

What is written to /dev/urandom counts only when the kernel reseeds the next time, up to a minute later,
and no tool of the guest can say "now" (random(4): RNDRESEEDCRNG). So that neither a compiler is needed
to build an image nor an interpreter in it, here is the program as bytes, for x86-64.

It says an empty line, reads one line from its standard input, whose fourth word is the time in seconds since
1970, sets the clock by it, mixes all of the line into the random numbers (descriptor 6: /dev/urandom), gives
the file system of descriptor 5 a random UUID, and hands the line on. It ends when nobody reads from it any
more. It is started before the save, since each program that starts or ends costs a restored guest hundredths
of a second; and it opens nothing, since the paths of its first stage are gone when it goes on.
"""

from __future__ import annotations

import struct
from typing import Final

_CODE: Final = bytes.fromhex(
    # write(2), number 1, of a line feed to standard output.
    "6a01 58 50 5f"  # push 1; pop rax; push rax; pop rdi
    "6a0a 54 5e 57 5a 0f05"  # push 10; push rsp; pop rsi; push rdi; pop rdx; syscall
    # read(2), number 0, of standard input into 4096 bytes of the stack; ebx: how many came.
    "4881ec00100000"  # sub rsp, 4096
    "31c0 31ff 54 5e ba00100000 0f05"  # xor eax, eax; xor edi, edi; push rsp; pop rsi; mov edx, 4096; syscall
    "85c0 0f8ea7000000 89c3"  # test eax, eax; jle out; mov ebx, eax
    # The decimal number behind the third space: rdx.
    "6a03 59"  # push 3; pop rcx
    "ac 3c20 75fb ffc9 75f7"  # field: lodsb; cmp al, ' '; jne field; dec ecx; jnz field
    "31d2 31c0"  # xor edx, edx; xor eax, eax
    "ac 2c30 3c09 7709"  # digit: lodsb; sub al, '0'; cmp al, 9; ja known
    "486bd20a 4801c2 ebf0"  # imul rdx, rdx, 10; add rdx, rax; jmp digit
    # settimeofday(2), number 164, with seconds and no microseconds.
    "6a00 52 54 5f 31f6"  # known: push 0; push rdx; push rsp; pop rdi; xor esi, esi
    "b8a4000000 0f05 5a 5a"  # mov eax, 164; syscall; pop rdx; pop rdx
    "85c0 7571"  # test eax, eax; jnz out
    # write(2) of the line to descriptor 6: ebp.
    "6a06 5d 6a01 58 89ef"  # push 6; pop rbp; push 1; pop rax; mov edi, ebp
    "54 5e 89da 0f05"  # push rsp; pop rsi; mov edx, ebx; syscall
    "85c0 785f"  # test eax, eax; js out
    # ioctl(2), number 16, with RNDRESEEDCRNG, 0x5207.
    "6a10 58 be07520000 31d2 0f05"  # push 16; pop rax; mov esi, 0x5207; xor edx, edx; syscall
    "85c0 754f"  # test eax, eax; jnz out
    # getrandom(2), number 318, of 16 bytes, behind a length of 16 and no flags: struct fsuuid.
    "4883ec10 6a10"  # sub rsp, 16; push 16
    "54 5f 4883c708 6a10 5e 31d2"  # push rsp; pop rdi; add rdi, 8; push 16; pop rsi; xor edx, edx
    "b83e010000 0f05"  # mov eax, 318; syscall
    "85c0 7833"  # test eax, eax; js out
    # ioctl(2) of descriptor 5 with EXT4_IOC_SETFSUUID, 0x4008662c (fs/ext4/ext4.h; since Linux 6.0).
    "6a10 58 6a05 5f be2c660840"  # push 16; pop rax; push 5; pop rdi; mov esi, 0x4008662c
    "54 5a 0f05"  # push rsp; pop rdx; syscall
    "4883c418 85c0 751c"  # add rsp, 24; test eax, eax; jnz out
    # write(2) of the line to standard output.
    "6a01 58 50 5f"  # push 1; pop rax; push rax; pop rdi
    "54 5e 89da 0f05"  # push rsp; pop rsi; mov edx, ebx; syscall
    # poll(2), number 7, of standard output for no event, without end: until nobody reads there any more.
    "6a01 54 5f 6a01 5e"  # push 1; push rsp; pop rdi; push 1; pop rsi
    "6aff 5a 6a07 58 0f05"  # push -1; pop rdx; push 7; pop rax; syscall
    "31c0"  # xor eax, eax
    # exit(2), number 60, with the number of the error, or 0.
    "f7d8 50 5f"  # out: neg eax; push rax; pop rdi
    "6a3c 58 0f05"  # push 60; pop rax; syscall
)

_BASE: Final = 0x400000
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")  # elf(5): Elf64_Ehdr
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")  # elf(5): Elf64_Phdr
_EXECUTABLE, _X86_64, _LOADED, _READ_AND_EXECUTE = 2, 62, 1, 5


def renewal_program() -> bytes:
    """A static executable. Its exit status is 0, or the number of an error, such as 1 for EPERM; then it does
    not hand the line on."""
    start = _HEADER.size + _SEGMENT.size
    size = start + len(_CODE)
    sizes = (_HEADER.size, _SEGMENT.size, 1, 0, 0, 0)
    magic = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
    header = _HEADER.pack(magic, _EXECUTABLE, _X86_64, 1, _BASE + start, _HEADER.size, 0, 0, *sizes)
    segment = _SEGMENT.pack(_LOADED, _READ_AND_EXECUTE, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + _CODE
