#!/bin/bash
# openvino 2026.4.1, Linux: of two Cores, the one that goes last leaves the thread a signal stack that is gone.
#
# A Core's CPU plugin gives the thread an alternate signal stack of its own (sigaltstack) when it is first used, and
# puts back the one it found when it goes. With two Cores that go in the order in which they came, the first gives its
# memory back while the second's stack is in use, and the second then puts back the first one's address. Python
# installs its handlers to run on the alternate stack, so the next signal that has one (Ctrl-C, or SIGCHLD once a
# DataLoader of PyTorch has had workers) ends the process with a segmentation fault far from OpenVINO, in whatever
# system call was waiting; faulthandler, which needs that stack too, says nothing. One Core for the process is safe.
#
# No signal is sent here: the address is looked up in the process's memory map.
#
# Seen:
#   no Core: no stack
#   two Cores: mapped
#   the first is gone: mapped
#   both are gone: not mapped
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$tmp/lib" openvino==2026.4.1 numpy==2.4.6
PYTHONPATH="$tmp/lib" python3 - <<'PY'
import ctypes
from pathlib import Path

import openvino


class Stack(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack():
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    if not stack.address:
        return "no stack"
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(word, 16) for word in line.split()[0].split("-"))
        if begin <= stack.address < end:
            return "mapped"
    return "not mapped"


print("openvino", openvino.__version__.split("-")[0])
seen = {"no Core": signal_stack()}
first, second = openvino.Core(), openvino.Core()
for core in (first, second):
    core.get_property("CPU", "FULL_DEVICE_NAME")  # the plugin comes when it is first asked
seen["two Cores"] = signal_stack()
del first, core
second.get_property("CPU", "FULL_DEVICE_NAME")
seen["the first is gone"] = signal_stack()
del second
seen["both are gone"] = signal_stack()
for when, what in seen.items():
    print(f"{when}: {what}")
assert seen["two Cores"] == "mapped"
assert seen["both are gone"] == "not mapped", "the behaviour has changed: the stack that is put back is there"
PY
