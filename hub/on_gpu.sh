#!/usr/bin/env bash
# Some minutes of a GPU on a machine without network: packed here, run there, fetched here.
#
#   here:   hub/on_gpu.sh pack FACES [RECIPE ...] [--weights FOLDER] [--on] [--transfers N]
#           fills .pack/, at most 60 MB, to be sent along with this checkout without its weights
#           (rm hub/*/*/model.safetensors; afterwards: git restore hub)
#   there:  hub/on_gpu.sh run OUT 9          self-check, then one recipe after the other; what each has made comes in OUT
#           hub/on_gpu.sh run OUT 3          goes on where the first call ended, .pack/ need not be sent again; and once
#                                            more (run OUT 1) where it says that files wait
#   here:   hub/on_gpu.sh fetch OUT          after each: collects the files in runs/on_gpu/RECIPE
#   here:   hub/on_gpu.sh rehearse [FACES]   all that on this CPU with some steps, in a bare environment, with the pack
#                                            that is there or, as for pack, with a new one
#
# FACES is celeba128, FOLDER has the second recogniser's weights, RECIPE is protector-photo-gpu, protector-gpu
# and stargan-celeba128 unless named. --on goes on from what was fetched of a recipe before. --transfers makes N files, each to be sent in a call of
# its own (run OUT 1), the last one with the call of 9 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
case ${1:-} in
    pack | fetch | rehearse) exec python3 hub/for_gpu.py "$@" ;;
    run) mkdir -p "$2" && python3 hub/on_gpu.py "${@:2}" 2>&1 | tee "$2/run-$(date +%H%M%S).log" ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;;
esac
