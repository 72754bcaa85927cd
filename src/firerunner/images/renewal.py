"""A program of two system calls for restored guests: sets the clock, and has random numbers drawn anew.

What is written to /dev/urandom counts only when the kernel reseeds the next time, up to a minute later,
and no tool of the guest can say "now" (random(4): RNDRESEEDCRNG). So that neither a compiler is needed
to build an image nor an interpreter in it, here is the program as bytes, for x86-64. It also sets the
clock, because each program that is started costs a restored guest hundredths of a second.
"""

from __future__ import annotations

import struct
from typing import Final

_CODE: Final = bytes.fromhex(
    # The seconds since 1970, in decimal, are the first argument.
    "488b742410"  # mov rsi, [rsp+16]
    "31c0 31c9"  # xor eax, eax; xor ecx, ecx
    "8a0e 80e930 80f909"  # digit: mov cl, [rsi]; sub cl, '0'; cmp cl, 9
    "770c"  # ja known
    "486bc00a 4801c8"  # imul rax, rax, 10; add rax, rcx
    "48ffc6 ebea"  # inc rsi; jmp digit
    # settimeofday(2), number 164, with seconds and no microseconds.
    "6a00 50 4889e7"  # known: push 0; push rax; mov rdi, rsp
    "31f6 b8a4000000 0f05"  # xor esi, esi; mov eax, 164; syscall
    "85c0 751c"  # test eax, eax; jnz out
    # open(2), number 2, of the path behind the code, to read.
    "6a02 58 488d3d1b000000"  # push 2; pop rax; lea rdi, [rip+27]
    "31f6 0f05"  # xor esi, esi; syscall
    # ioctl(2), number 16, with RNDRESEEDCRNG, 0x5207.
    "89c7 6a10 58"  # mov edi, eax; push 16; pop rax
    "be07520000 31d2 0f05"  # mov esi, 0x5207; xor edx, edx; syscall
    # exit(2), number 60, with the number of the error, or 0.
    "f7d8 89c7"  # out: neg eax; mov edi, eax
    "6a3c 58 0f05"  # push 60; pop rax; syscall
)
_PATH: Final = b"/dev/urandom\0"

_BASE: Final = 0x400000
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")  # elf(5): Elf64_Ehdr
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")  # elf(5): Elf64_Phdr
_EXECUTABLE, _X86_64, _LOADED, _READ_AND_EXECUTE = 2, 62, 1, 5


def renewal_program() -> bytes:
    """A static executable. Its exit status is 0, or the number of an error, such as 1 for EPERM."""
    start = _HEADER.size + _SEGMENT.size
    size = start + len(_CODE) + len(_PATH)
    sizes = (_HEADER.size, _SEGMENT.size, 1, 0, 0, 0)
    magic = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
    header = _HEADER.pack(magic, _EXECUTABLE, _X86_64, 1, _BASE + start, _HEADER.size, 0, 0, *sizes)
    segment = _SEGMENT.pack(_LOADED, _READ_AND_EXECUTE, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + _CODE + _PATH
