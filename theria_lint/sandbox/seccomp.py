"""Build and install seccomp filters: which system calls a process may make.

Landlock does not know sockets other than TCP, modes and owners of files, other processes' limits; and a limit on the
number of processes counts all processes of the user and does not bind root. A filter knows all of these.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

from theria_lint.sandbox.linux import make_system_call

_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3

_ALLOW = 0x7FFF0000
_ASK = 0x7FC00000
_REFUSE = 0x00050000  # with an error number in its low half

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000
"""The flags of clone for new namespaces: of mounts, cgroups, names, IPC, users, processes, the network."""
_X32 = 0x40000000
_PR_SET_PDEATHSIG = 1

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06

Instruction = tuple[int, int, int, int]

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: the call's number on (x86_64, aarch64); None where the architecture has no such call
_NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    "seccomp": (317, 277),
    "clone": (56, 220),
    "clone3": (435, 435),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "fallocate": (285, 47),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}

_TRACING = ("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd")
_MEMORY = ("migrate_pages", "move_pages")
_OTHER_PROCESSES = (*_TRACING, "pidfd_send_signal", "tkill", "setpriority", "ioprio_set", *_MEMORY)
_UNSEEN = ("io_uring_setup", "io_uring_enter", "io_uring_register", "open_by_handle_at", "connect")
"""Ways to files and sockets that pass by the other checks."""
_KERNEL = ("unshare", "setns", "add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd")
_MOUNTS = ("mount", "umount2", "pivot_root", "chroot", "move_mount", "mount_setattr")
_NEW_MOUNTS = ("open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick")
_OUTLIVING = ("shmget", "semget", "msgget", "mq_open")
"""What stays in memory when the process has ended."""
_FORBIDDEN = (*_OTHER_PROCESSES, *_UNSEEN, *_KERNEL, *_MOUNTS, *_NEW_MOUNTS, *_OUTLIVING)

# Change whose a file is, who may use it or when it changed, of any file of the user: so they do nothing at all.
# Code that copies a file with its mode goes on, where a refusal would end it.
_MODES = ("chmod", "fchmod", "fchmodat", "fchmodat2")
_OWNERS = ("chown", "fchown", "lchown", "fchownat")
_ATTRIBUTES = ("setxattr", "lsetxattr", "fsetxattr", "setxattrat")
_REMOVED_ATTRIBUTES = ("removexattr", "lremovexattr", "fremovexattr", "removexattrat")
_TIMES = ("utime", "utimes", "futimesat", "utimensat")
_WITHOUT_EFFECT = (*_MODES, *_OWNERS, *_ATTRIBUTES, *_REMOVED_ATTRIBUTES, *_TIMES)

_OWN_ONLY = ("prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr")
"""Limits and places in the queue for processors: of the process that calls, which is 0, and of no other."""

# F_SETOWN, F_SETSIG, F_SETOWN_EX: a file that is ready sends any signal to any process; F_SETLEASE: others wait for it.
_FILE_COMMANDS = (8, 10, 15, 1024)
# FIOSETOWN, SIOCSPGRP as above; FS_IOC_SETFLAGS, its form for 32 bits, FS_IOC_FSSETXATTR, FS_IOC_ENABLE_VERITY and
# FS_IOC_SET_ENCRYPTION_POLICY change files of the user's that are open for no more than reading.
_DEVICE_COMMANDS = (0x8901, 0x8902, 0x40086602, 0x40046602, 0x401C5820, 0x40806685, 0x800C6613)

_UNCOUNTED = ("memfd_create", "memfd_secret")
"""Memory that no limit counts."""


SIGNALS = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
"""The calls that send a signal to the process that their first argument names."""


class ProcessPolicy(Enum):
    """What becomes of an attempt to start a process."""

    ALLOWED = "allowed"
    ASKED = "asked"
    """Whoever holds the listener decides."""
    REFUSED = "refused"


def make_import_filter(processes: ProcessPolicy, *, programs: bool) -> list[Instruction]:
    """The filter for a process that imports a file; ``programs``: whether other programs may be executed."""
    code = [
        *_refuse_calls(_FORBIDDEN, errno.EPERM),
        *_refuse_calls(_WITHOUT_EFFECT, 0),
        *_refuse_calls(["file_setattr"], errno.EOPNOTSUPP),
        *_refuse_commands("fcntl", _FILE_COMMANDS),
        *_refuse_commands("ioctl", _DEVICE_COMMANDS),
        *_filter_sockets(),
        *_filter_others_limits(),
    ]
    code += _new_namespaces()
    code += _refuse_calls(
        ["clone3"], errno.ENOSYS
    )  # its flags are in memory, out of a filter's sight: clone is tried next
    code += _refuse_calls(["fallocate"], errno.EOPNOTSUPP)
    if not programs:
        code += _refuse_calls(["execve", "execveat"], errno.EACCES) + _refuse_calls(_UNCOUNTED, errno.ENOSYS)
    if processes is ProcessPolicy.ASKED:
        code += [part for name in SIGNALS for part in _guard_call(name, [(_ANSWER, 0, 0, _ASK)])]
    if processes is not ProcessPolicy.ALLOWED:
        code += _filter_process_starts(_ASK if processes is ProcessPolicy.ASKED else _REFUSE | errno.EAGAIN)
    return code


def make_target_filter(own_pid: int, *, programs: bool) -> list[Instruction]:
    """What a process that calls a target is forbidden besides: processes, and signals to any but itself."""
    code = [] if programs else _filter_process_starts(_REFUSE | errno.EAGAIN)
    for name in SIGNALS:
        code += _guard_call(
            name, [(_LOAD, 0, 0, _find_argument_offset(0)), (_EQUAL, 1, 0, own_pid), _make_refusal(errno.EPERM)]
        )
    return code


def _filter_process_starts(answer: int) -> list[Instruction]:
    """Threads are no processes: clone with CLONE_THREAD passes."""
    code = [i for name in ("fork", "vfork") for i in _guard_call(name, [(_ANSWER, 0, 0, answer)])]
    flags = [(_LOAD, 0, 0, _find_argument_offset(0)), (_ANY_BIT, 1, 0, _CLONE_THREAD), (_ANSWER, 0, 0, answer)]
    return code + _guard_call("clone", flags)


def _new_namespaces() -> list[Instruction]:
    """What unshare is refused, clone is refused too."""
    flags = [(_LOAD, 0, 0, _find_argument_offset(0)), (_ANY_BIT, 0, 1, _CLONE_NEW), _make_refusal(errno.EPERM)]
    return _guard_call("clone", flags)


def _filter_sockets() -> list[Instruction]:
    """Only UNIX sockets that carry no addresses: with connect refused they reach nothing but each other."""
    stream = [
        (_LOAD, 0, 0, _find_argument_offset(0)),
        (_EQUAL, 0, 4, int(socket.AF_UNIX)),
        (_LOAD, 0, 0, _find_argument_offset(1)),
        (_AND, 0, 0, 0xF),
        (_EQUAL, 2, 0, int(socket.SOCK_STREAM)),
        (_EQUAL, 1, 0, int(socket.SOCK_SEQPACKET)),
        _make_refusal(errno.EACCES),
    ]
    return _guard_call("socket", stream) + _guard_call("socketpair", stream)


def _filter_others_limits() -> list[Instruction]:
    """The limits of other processes, when they run, and the request to die with the parent, stay as they are."""
    own = [(_LOAD, 0, 0, _find_argument_offset(0)), (_EQUAL, 1, 0, 0), _make_refusal(errno.EPERM)]
    death = [
        (_LOAD, 0, 0, _find_argument_offset(0)),
        (_EQUAL, 0, 3, _PR_SET_PDEATHSIG),
        (_LOAD, 0, 0, _find_argument_offset(1)),
        (_EQUAL, 1, 0, int(signal.SIGKILL)),
        _make_refusal(errno.EPERM),
    ]
    return [part for name in _OWN_ONLY for part in _guard_call(name, own)] + _guard_call("prctl", death)


def _refuse_commands(name: str, commands: Iterable[int]) -> list[Instruction]:
    """What a call is asked to do with a file is its second argument."""
    tests = [part for command in commands for part in ((_EQUAL, 0, 1, command), _make_refusal(errno.EPERM))]
    return _guard_call(name, [(_LOAD, 0, 0, _find_argument_offset(1)), *tests])


def _find_argument_offset(index: int) -> int:
    """Where the low half of an argument stands in ``struct seccomp_data``, on a little-endian machine."""
    return 16 + 8 * index


def _make_refusal(number: int) -> Instruction:
    """Make the call fail with an error number; 0 is success without effect."""
    return (_ANSWER, 0, 0, _REFUSE | number)


def _refuse_calls(names: Iterable[str], number: int) -> list[Instruction]:
    return [instruction for name in names for instruction in _guard_call(name, [_make_refusal(number)])]


def _guard_call(name: str, code: list[Instruction]) -> list[Instruction]:
    """The code, for one call only; it may clobber the accumulator, so the call's number is loaded again behind it."""
    number = _find_call_number(name)
    if number is None:
        return []
    return [(_EQUAL, 0, len(code) + 1, number), *code, (_LOAD, 0, 0, 0)]


def is_signal(number: int) -> bool:
    """Whether a call, by its number, sends a signal."""
    return number in [_find_call_number(name) for name in SIGNALS]


def _find_call_number(name: str) -> int | None:
    return dict(zip(_AUDIT, _NUMBERS[name], strict=True)).get(platform.machine())


def install_filter(code: list[Instruction], *, listen: bool = False) -> int:
    """Install a filter in this thread and all that it forks; the listener's file descriptor if one is wanted.

    Calls by another architecture's numbers are refused: they would pass the filter unseen. The process must have given
    up new privileges.

    Raises:
        OSError: if the kernel refuses, or this machine's calls are unknown.
    """
    audit, seccomp = _AUDIT.get(platform.machine()), _find_call_number("seccomp")
    if audit is None or seccomp is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), platform.machine())
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _frame_filter(code, audit))
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    return make_system_call(seccomp, _SET_MODE_FILTER, _NEW_LISTENER if listen else 0, ctypes.c_char_p(header))


def _frame_filter(code: list[Instruction], audit: int) -> Iterator[Instruction]:
    """``struct seccomp_data`` has the call's number at 0, the architecture at 4, the arguments from 16."""
    yield (_LOAD, 0, 0, 4)
    yield (_EQUAL, 1, 0, audit)
    yield _make_refusal(errno.ENOSYS)
    yield (_LOAD, 0, 0, 0)
    if audit == _AUDIT["x86_64"]:
        yield (_AT_LEAST, 0, 1, _X32)
        yield _make_refusal(errno.ENOSYS)
    yield from code
    yield (_ANSWER, 0, 0, _ALLOW)
