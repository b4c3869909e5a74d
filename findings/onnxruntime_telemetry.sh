#!/bin/bash
# onnxruntime from 1.29.0 on, Linux: importing it makes a device id in the home folder, as telemetry is on, and its own switch comes too late.
#
# It used to be known that only Windows builds of ONNX Runtime collect telemetry. Since 1.29.0 the wheels for Linux do
# (its Privacy.md: on by default, sent over HTTPS): the import alone, before any session, writes
# ~/.cache/Microsoft/DeveloperTools/.onnxruntime/deviceid and a database of events beside it. A call of
# disable_telemetry_events() right after the import changes nothing of that. What prevents it is the environment
# variable ORT_DISABLE_TELEMETRY=1, set before the import; "0" leaves it on. A program that says that nothing leaves the machine has to set it.
#
# Seen (files left in an empty home folder by the import):
#   1.28.0: none
#   1.32.0: deviceid onnxruntime.db
#   1.32.0, disable_telemetry_events(): deviceid onnxruntime.db
#   1.32.0, ORT_DISABLE_TELEMETRY=1: none
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/env"
unset ORT_DISABLE_TELEMETRY XDG_CACHE_HOME
pip="$tmp/env/bin/python -m pip install --quiet --disable-pip-version-check"
$pip numpy==2.4.6

# Files in a new home folder after a line of Python: what the folder is called, the line, settings of the environment.
left() {
  mkdir -p "$tmp/$1/tmp"
  env HOME="$tmp/$1" TMPDIR="$tmp/$1/tmp" "${@:3}" "$tmp/env/bin/python" -c "$2"
  found=$(cd "$tmp/$1" && find . -path '*onnxruntime/*' -type f \( -name deviceid -o -name '*.db' \) -printf '%f\n' | sort | xargs)
  echo "${found:-none}"
}

$pip onnxruntime==1.28.0
before=$(left before "import onnxruntime")
$pip onnxruntime==1.32.0
import=$(left import "import onnxruntime")
call=$(left call "import onnxruntime; onnxruntime.disable_telemetry_events()")
variable=$(left variable "import onnxruntime" ORT_DISABLE_TELEMETRY=1)
echo "1.28.0: $before"
echo "1.32.0: $import"
echo "1.32.0, disable_telemetry_events(): $call"
echo "1.32.0, ORT_DISABLE_TELEMETRY=1: $variable"
[ "$before, $import, $call, $variable" = "none, deviceid onnxruntime.db, deviceid onnxruntime.db, none" ] ||
  { echo "the behaviour has changed"; exit 1; }
