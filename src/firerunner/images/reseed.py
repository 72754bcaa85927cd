"""A program of one system call: the kernel of a restored machine draws its random numbers anew.

What is written to /dev/urandom counts only when the kernel reseeds the next time, up to a minute later,
and no tool of the guest can say "now" (random(4): RNDRESEEDCRNG). So that neither a compiler is needed
to build an image nor an interpreter in it, here is the program as bytes: 170 of them, for x86-64.
"""

from __future__ import annotations

import struct
from typing import Final

_CODE: Final = bytes.fromhex(
    "6a02 58"  # push 2; pop rax                   open(2)
    "488d3d1b000000"  # lea rdi, [rip+27]          the path behind the code
    "31f6"  # xor esi, esi                         O_RDONLY
    "0f05"  # syscall
    "89c7"  # mov edi, eax                         the descriptor
    "6a10 58"  # push 16; pop rax                  ioctl(2)
    "be07520000"  # mov esi, 0x5207                RNDRESEEDCRNG
    "31d2"  # xor edx, edx
    "0f05"  # syscall
    "f7d8"  # neg eax                              0, or the error's number
    "89c7"  # mov edi, eax
    "6a3c 58"  # push 60; pop rax                  exit(2)
    "0f05"  # syscall
)
_PATH: Final = b"/dev/urandom\0"

_BASE: Final = 0x400000
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")  # elf(5): Elf64_Ehdr
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")  # elf(5): Elf64_Phdr


def reseed_program() -> bytes:
    """A static executable whose exit status is 0, or the number of the error (EPERM 1, EBADF 9)."""
    start = _HEADER.size + _SEGMENT.size
    size = start + len(_CODE) + len(_PATH)
    header = _HEADER.pack(
        b"\x7fELF\x02\x01\x01",  # 64 bits, little endian, version 1
        2,  # an executable
        62,  # x86-64
        1,
        _BASE + start,
        _HEADER.size,
        0,
        0,
        _HEADER.size,
        _SEGMENT.size,
        1,
        0,
        0,
        0,
    )
    segment = _SEGMENT.pack(1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # loaded, to read and execute
    return header + segment + _CODE + _PATH
