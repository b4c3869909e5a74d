#!/bin/bash
# torch 2.13.0, CPU: torch.set_num_threads in one thread holds for that thread and for all that ask PyTorch for the first time
# later, the main thread too; a thread that has asked before keeps the number it had.
#
# One would think that it is the whole process's, or the thread's own. It is neither: a pool of workers that each set one thread
# leaves the main thread alone if that has computed before, and else makes it compute with one thread from then on.
# So a program becomes slower for a pool that has long ended, depending on what it did before.
#
# Seen (main thread with OMP_NUM_THREADS=2 on two cores, after a worker has set 1):
#   main thread that had asked before: 2, main thread that had not: 1, another thread afterwards: 1
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$tmp/late.py" <<'PY'
import sys
import threading

import torch


def in_a_thread(work):
    found = []
    one = threading.Thread(target=lambda: found.append(work()))
    one.start()
    one.join()
    return found[0]


if sys.argv[1] == "asked":
    torch.get_num_threads()
in_a_thread(lambda: torch.set_num_threads(1))
print(torch.get_num_threads(), in_a_thread(torch.get_num_threads))
PY
export OMP_NUM_THREADS=2
read -r asked _ <<< "$("$tmp/venv/bin/python" "$tmp/late.py" asked)"
read -r silent later <<< "$("$tmp/venv/bin/python" "$tmp/late.py" silent)"
echo "torch 2.13.0, main thread that had asked before: $asked, main thread that had not: $silent, another thread afterwards: $later"
[ "$asked $silent $later" = "2 1 1" ] || { echo "the behaviour has changed"; exit 1; }
