#!/bin/bash
# torch 2.13.0: torch.load with its defaults refuses plain weights that torch.save wrote with pickle_protocol=4 or 5.
#
# torch.save has a parameter for the protocol, and since Python 3.8 pickle itself writes 4. Files written so hold nothing but
# tensors, and one would think that the same release reads them. With weights_only=True, the default, 2 is read, 3 with a
# warning; 4 and 5 end in an UnpicklingError that speaks of an operand and of trust, not of the protocol. Who hands weights
# on leaves pickle_protocol alone. fewbox reads such files: it needs no unpickler.
#
# Seen:
#   2: read   3: read, with a warning   4: UnpicklingError   5: UnpicklingError
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$tmp/venv/bin/python" - "$tmp/weights.pth" <<'PY'
import pickle
import sys
import warnings

import torch

print("torch", torch.__version__)
seen = {}
for protocol in (2, 3, 4, 5):
    torch.save({"weight": torch.ones(3)}, sys.argv[1], pickle_protocol=protocol)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            assert torch.load(sys.argv[1])["weight"].sum() == 3
            seen[protocol] = "read, with a warning" if told else "read"
        except pickle.UnpicklingError as error:
            seen[protocol] = "UnpicklingError"
            print(f"{protocol}: ... {[line for line in str(error).splitlines() if 'operand' in line][-1].strip()}")
print(seen)
expected = {2: "read", 3: "read, with a warning", 4: "UnpicklingError", 5: "UnpicklingError"}
assert seen == expected, "the behaviour has changed"
PY
