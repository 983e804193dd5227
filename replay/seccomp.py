"""What a sandboxed program may not ask of the kernel, as a seccomp filter (classic BPF).

What namespaces and dropped capabilities do not keep away by themselves: sockets of families that a network namespace
does not cut off, keyrings, new namespaces, terminal tricks, and interfaces that a kernel's bugs are found in. Every
other call passes. A refused one fails with EPERM, so that programs go on without.
"""

import platform
import struct
from typing import NamedTuple

# linux/bpf_common.h, linux/seccomp.h, linux/audit.h
_LOAD, _EQUAL, _AT_LEAST, _BITS, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _FIRST, _SECOND = 0, 4, 16, 24
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97

_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, and AF_NETLINK, by which the C library lists interfaces."""

_NEWUSER = 0x10000000
_NAMESPACES = 0x7E020000 | 0x80
"""Every CLONE_NEW*: mount, cgroup, uts, ipc, user, pid, net, and time."""

_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
"""Both type into a terminal as if a person did."""


class _Machine(NamedTuple):
    arch: int
    socket: int
    clone: int
    clone3: int
    ioctl: int
    refused: tuple[int, ...]
    x32: bool = False


# By name: add_key request_key keyctl bpf userfaultfd perf_event_open mount umount2 pivot_root setns unshare
# open_by_handle_at kexec_load init_module finit_module delete_module io_uring_setup io_uring_enter io_uring_register
# fsopen fsconfig fsmount move_mount open_tree mount_setattr process_vm_writev quotactl swapon reboot acct
# lookup_dcookie kexec_file_load
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E, 41, 56, 435, 16,
        (248, 249, 250, 321, 323, 298, 165, 166, 155, 308, 272, 304, 246, 175, 313, 176, 425, 426, 427, 430, 431, 432,
         429, 428, 442, 311, 179, 167, 169, 163, 212, 320),
        x32=True,
    ),
    "aarch64": _Machine(
        0xC00000B7, 198, 220, 435, 29,
        (217, 218, 219, 280, 282, 241, 40, 39, 41, 268, 97, 265, 104, 105, 273, 106, 425, 426, 427, 430, 431, 432,
         429, 428, 442, 271, 60, 224, 142, 89, 18, 294),
    ),
}  # fmt: skip


def supported() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in _MACHINES


def program(machine: str = "") -> bytes:
    """The filter, as bubblewrap takes it: an array of `struct sock_filter`.

    Args:
        machine: as `uname -m`; this one's where empty.
    """
    found = _MACHINES[machine or platform.machine()]
    made: list[tuple[int, int, int, int]] = []

    def refuse(error: int) -> None:
        made.append((_RETURN, 0, 0, _ERRNO | error))

    # Calls of another machine's numbers, such as those of 32 bits, mean something else: none passes.
    made.append((_LOAD, 0, 0, _ARCH))
    made.append((_EQUAL, 1, 0, found.arch))
    refuse(_EPERM)
    made.append((_LOAD, 0, 0, _NUMBER))
    if found.x32:
        made.append((_AT_LEAST, 0, 1, 0x40000000))
        refuse(_EPERM)
    for number in found.refused:
        made.append((_EQUAL, 0, 1, number))
        refuse(_EPERM)
    # Its flags lie in memory, where no filter looks: the C library goes on with `clone`.
    made.append((_EQUAL, 0, 1, found.clone3))
    refuse(_ENOSYS)
    made += [(_EQUAL, 0, 4, found.clone), (_LOAD, 0, 0, _FIRST), (_BITS, 0, 1, _NAMESPACES)]
    refuse(_EPERM)
    made.append((_RETURN, 0, 0, _ALLOW))
    made += [(_EQUAL, 0, 5, found.ioctl), (_LOAD, 0, 0, _SECOND), (_EQUAL, 1, 0, _TIOCSTI), (_EQUAL, 0, 1, _TIOCLINUX)]
    refuse(_EPERM)
    made.append((_RETURN, 0, 0, _ALLOW))
    made += [(_EQUAL, 1, 0, found.socket), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, _FIRST)]
    for family in _FAMILIES:
        made.append((_EQUAL, 0, 1, family))
        made.append((_RETURN, 0, 0, _ALLOW))
    refuse(_EAFNOSUPPORT)
    return b"".join(struct.pack("=HBBI", *one) for one in made)
