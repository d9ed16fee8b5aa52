"""Rights that the Linux kernel takes away from a process for good: files through Landlock, the rest through seccomp.

Both are requested through ctypes, and neither the process nor its children can undo them. Landlock (Linux 5.13) works on
paths: nothing can be written, created, removed or run, and only the named paths can be read. It binds the calling thread
and what that thread starts, so call it before there are other threads. Seccomp works on system calls and binds every
thread: no sockets of any kind (Landlock alone leaves UDP open), no other programs or processes, no signals, no tracing,
no files opened for writing, no limits raised.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_VERSION_FLAG = 1
_LANDLOCK_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = ((1, (1 << 13) - 1), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
"""File rights by the version of Landlock that introduced them: the first 13, then refer, truncate, ioctl."""
_TCP_RIGHTS_VERSION, _TCP_RIGHTS = 4, 0b11
_SCOPES_VERSION, _SCOPES = 6, 0b11
"""Abstract unix sockets of other processes, and signals to them."""


class NotOffered(OSError):
    """The kernel lacks a feature, or does not let this process use it."""


def landlock_version() -> int:
    """The kernel's version of Landlock; 0 if it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _libc().syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION_FLAG))


def close_files(readable: Iterable[Path]) -> int:
    """From now on this thread cannot write, create, remove or run any file, and can read only what is under ``readable``.

    Returns:
        the version of Landlock.

    Raises:
        NotOffered: the kernel has no Landlock.
    """
    version = landlock_version()
    if version == 0:
        raise NotOffered("this kernel has no Landlock (Linux 5.13)")
    libc = _libc()
    files = sum(rights for since, rights in _FILE_RIGHTS if version >= since)
    tcp = _TCP_RIGHTS if version >= _TCP_RIGHTS_VERSION else 0
    scopes = _SCOPES if version >= _SCOPES_VERSION else 0
    size = 24 if scopes else 16 if tcp else 8
    rules = libc.syscall(_LANDLOCK_CREATE_RULESET, struct.pack("=QQQ", files, tcp, scopes), ctypes.c_size_t(size), 0)
    _succeeded(rules, "landlock_create_ruleset")
    try:
        for path in readable:
            _allow_reading(libc, rules, path)
        _succeeded(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
        _succeeded(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0), "landlock_restrict_self")
    finally:
        os.close(rules)
    return version


def _allow_reading(libc: ctypes.CDLL, rules: int, path: Path) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = struct.pack("=Qi", _READ_FILE | (_READ_DIR if path.is_dir() else 0), handle)
        _succeeded(libc.syscall(_LANDLOCK_ADD_RULE, rules, _LANDLOCK_PATH_BENEATH, rule, 0), "landlock_add_rule")
    finally:
        os.close(handle)


# Seccomp. A filter is a program for the kernel's packet filter that looks at the number and the arguments of each
# system call (man 2 seccomp). Numbers: x86-64, then arm64; None if that machine has no such call.

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_NEWEST_KNOWN_CALL = 450
"""Later calls are answered as if the kernel did not have them, and so are calls that look like another ABI."""

_DENIED = {
    # the network, and communication with other processes
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "recvmmsg": (299, 243), "shmget": (29, 194), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    # other programs, processes and their memory
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kcmp": (312, 272), "kill": (62, 129),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    # loosening its own restrictions
    "setsid": (112, 157), "setpgid": (109, 154), "setrlimit": (160, 164), "prctl": (157, 167), "seccomp": (317, 277),
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159), "capset": (126, 91),
    "personality": (135, 92), "setpriority": (141, 140), "unshare": (272, 97), "setns": (308, 268),
    # the machine
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "fsopen": (430, 430),
    "fsmount": (432, 432), "move_mount": (429, 429), "open_tree": (428, 428), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "quotactl": (179, 60), "acct": (163, 89), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "fanotify_init": (300, 262), "iopl": (172, None), "ioperm": (173, None),
    # changes to files; those by `open` are below
    "creat": (85, None), "openat2": (437, 437), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "truncate": (76, 45), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None),
    "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88),
    "futimesat": (261, None), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
_SECCOMP, _CLONE, _CLONE3, _OPEN, _OPENAT, _PRLIMIT, _TGKILL = (
    (317, 277), (56, 220), (435, 435), (2, None), (257, 56), (302, 261), (234, 131),
)  # fmt: skip

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4
_CLONE_THREAD = 0x00010000
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1


def close_calls() -> None:
    """From now on no sockets, processes, signals, raised limits or changes to files, for all threads of this process.

    Raises:
        NotOffered: the kernel has no seccomp filters, or the system calls of this architecture are not listed here.
    """
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in _ARCHITECTURES:
        raise NotOffered(f"no seccomp filter is known for {platform.system()} on {machine}")
    program = _program(*_ARCHITECTURES[machine], own_pid=os.getpid())
    instructions = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(instructions))
    libc = _libc()
    _succeeded(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    number = _SECCOMP[_ARCHITECTURES[machine][1]]
    _succeeded(libc.syscall(number, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, header), "seccomp")


def _program(architecture: int, column: int, own_pid: int) -> list[bytes]:
    """The filter. Jumps count the instructions to skip, and reach at most 255: each rule ends with its own answer."""
    refused, missing = _answer(_REFUSE | errno.EPERM), _answer(_REFUSE | errno.ENOSYS)
    program = [
        *(_load(_ARCHITECTURE), _jump(_EQUAL, architecture, 1, 0), _answer(_KILL)),
        *(_load(_NUMBER), _jump(_AT_LEAST, _NEWEST_KNOWN_CALL + 1, 0, 1), missing),
    ]
    for numbers in _DENIED.values():
        program += _if_call(numbers[column], [refused])
    # glibc falls back to clone, whose flags can be checked; only threads may be created.
    program += _if_call(_CLONE3[column], [missing])
    program += _if_call(_CLONE[column], [_load(_argument(0)), _jump(_ANY_BIT, _CLONE_THREAD, 1, 0), refused])
    changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    for numbers, flags in ((_OPEN, 1), (_OPENAT, 2)):
        program += _if_call(numbers[column], [_load(_argument(flags)), _jump(_ANY_BIT, changes, 0, 1), refused])
    given = [_load(_argument(2)), _jump(_EQUAL, 0, 1, 0), refused, _load(_argument(2) + 4), _jump(_EQUAL, 0, 1, 0), refused]
    program += _if_call(_PRLIMIT[column], given)
    program += _if_call(_TGKILL[column], [_load(_argument(0)), _jump(_EQUAL, own_pid, 1, 0), refused])
    return [*program, _answer(_ALLOW)]


def _if_call(number: int | None, rule: list[bytes]) -> list[bytes]:
    """``rule`` for one system call; if the rule gives no answer, the call is allowed."""
    if number is None:
        return []
    return [_jump(_EQUAL, number, 0, len(rule) + 1), *rule, _answer(_ALLOW)]


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _jump(test: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", test, if_true, if_false, value)


def _answer(value: int) -> bytes:
    return struct.pack("=HBBI", _ANSWER, 0, 0, value)


def _argument(position: int) -> int:
    return 16 + 8 * position  # its lower half, on little-endian machines


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _succeeded(result: int, call: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise NotOffered(code, f"{call} is not possible here: {os.strerror(code)}")
