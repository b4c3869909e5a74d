#!/bin/bash
# ray 2.60.0, Linux: ray.shutdown() takes the process's handlers of fatal signals and of SIGTERM, and Python does not know.
#
# ray.init replaces a handler of SIGTERM by its own, which can be seen from Python. ray.shutdown then sets SIGSEGV,
# SIGILL, SIGFPE, SIGABRT and SIGTERM to their defaults below Python: signal.getsignal still names a handler, which
# is never called again, and faulthandler.is_enabled() is true while a crash would leave no word. A test runner that has
# once started Ray in a process loses the last words of whatever crashes there later. What to do: note SIGTERM's
# handler before ray.init and set it again after ray.shutdown; disable and enable faulthandler.
#
# Seen, as /proc/self/status has it (SigCgt):
#   before: SIGILL SIGABRT SIGFPE SIGSEGV SIGTERM
#   with Ray: SIGILL SIGABRT SIGFPE SIGSEGV SIGTERM
#   after it: none; faulthandler says it is enabled: True
#   set again: SIGILL SIGABRT SIGFPE SIGSEGV SIGTERM
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/env"
"$tmp/env/bin/python" -m pip install --quiet --disable-pip-version-check ray==2.60.0
RAY_USAGE_STATS_ENABLED=0 "$tmp/env/bin/python" - <<'PY'
import faulthandler
import signal
from pathlib import Path

import ray

FATAL = (signal.SIGILL, signal.SIGABRT, signal.SIGFPE, signal.SIGSEGV, signal.SIGTERM)


def caught():
    status = Path("/proc/self/status").read_text().splitlines()
    mask = int(next(line for line in status if line.startswith("SigCgt")).split()[1], 16)
    return " ".join(one.name for one in FATAL if mask >> (one - 1) & 1) or "none"


def heard(*_):
    pass


print("ray", ray.__version__)
faulthandler.enable()
signal.signal(signal.SIGTERM, heard)
before = caught()
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
during = caught()
ray.shutdown()
after, told = caught(), faulthandler.is_enabled()
assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN, None), "Python names a handler"
faulthandler.disable()
faulthandler.enable()
signal.signal(signal.SIGTERM, heard)
print(f"before: {before}\nwith Ray: {during}\nafter it: {after}; faulthandler says it is enabled: {told}")
print(f"set again: {caught()}")
assert before == during == caught()
assert (after, told) == ("none", True), "the behaviour has changed: handlers are left, or faulthandler knows"
PY
