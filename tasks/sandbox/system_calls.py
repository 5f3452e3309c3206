"""The seccomp filter of the sandbox: some calls fail. Pure.

Those that start processes, open sockets, take memory beyond the limit, or are known ways into the kernel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_LEAST, _JUMP_IF_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of classic BPF."""
_KILL, _ALLOW, _FAIL = 0x80000000, 0x7FFF0000, 0x00050000
_NOT_PERMITTED, _NOT_THERE = 1, 38
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in seccomp_data, little-endian."""
_THREAD = 0x00010000
"""The flag of `clone` for a thread of the same process."""
_CLONE3 = 435


@dataclass(frozen=True)
class Machine:
    code: int
    """AUDIT_ARCH_… of the kernel."""
    clone: int
    refused: tuple[int, ...]
    foreign: int | None = None
    """Numbers from here on are calls of another interface (x32)."""


MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        clone=56,
        refused=(
            *(57, 58),  # fork, vfork
            *(41, 101, 272, 308),  # socket, ptrace, unshare, setns
            *(248, 249, 250),  # add_key, request_key, keyctl
            *(298, 310, 311, 321, 323),  # perf_event_open, process_vm_readv, process_vm_writev, bpf, userfaultfd
            *(425, 426, 427),  # io_uring
            *(29, 64, 68, 240),  # shmget, semget, msgget, mq_open: their memory is not of the address space
            *(319, 447),  # memfd_create, memfd_secret
        ),
        foreign=0x40000000,
    ),
    "aarch64": Machine(
        0xC00000B7,
        clone=220,
        refused=(
            198,
            117,
            97,
            268,
            217,
            218,
            219,
            241,
            270,
            271,
            280,
            282,
            425,
            426,
            427,
            194,
            190,
            186,
            180,
            279,
            447,
        ),  # the same, in the same order
    ),
}
"""Processor → its system calls. On other processors nothing is executed."""


def seccomp_filter(machine: Machine) -> bytes:
    """The program for bubblewrap's `--seccomp`. Threads may start; `clone3` appears to be missing, so that libc uses `clone`."""
    program = [
        _step(_LOAD, _MACHINE),
        _step(_JUMP_IF_EQUAL, machine.code, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if machine.foreign is not None:
        program += [_step(_JUMP_IF_LEAST, machine.foreign, 0, 1), _step(_RETURN, _FAIL | _NOT_PERMITTED)]
    for number in machine.refused:
        program += [_step(_JUMP_IF_EQUAL, number, 0, 1), _step(_RETURN, _FAIL | _NOT_PERMITTED)]
    program += [_step(_JUMP_IF_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _FAIL | _NOT_THERE)]
    program += [
        _step(_JUMP_IF_EQUAL, machine.clone, 0, 3),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_JUMP_IF_BIT, _THREAD, 1, 0),
        _step(_RETURN, _FAIL | _NOT_PERMITTED),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
