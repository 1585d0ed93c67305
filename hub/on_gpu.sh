#!/usr/bin/env bash
# What only a GPU can show, on a machine without network: ART's surface on CUDA, the speed of StarGAN's training, and
# some minutes of the queue's first entry, from the protector that ships. What it needs is packed in parts of 64 MB.
#
#   here:   hub/on_gpu.sh pack 1|2|3 FACES   fills .pack/, to be sent along with this checkout without its weights
#                                            (rm hub/*/*/model.safetensors; afterwards: git restore hub)
#   there:  hub/on_gpu.sh keep               after each of the three: keeps what came in ~/kept
#   there:  hub/on_gpu.sh run OUT MINUTES    tests and speed in OUT, then so many minutes of training, its result in OUT
#
# FACES is celeba128. Whatever ends early leaves its output in OUT, and a training that is cut off its log.
set -euo pipefail
cd "$(dirname "$0")/.."
kept=$HOME/kept
wheels=(adversarial-robustness-toolbox beartype six scikit-learn joblib cloudpickle narwhals threadpoolctl jaxtyping wadler-lindig lazy-loader)

pack() {
    rm -rf .pack && mkdir -p .pack/hub/manipulators .pack/hub/protectors .pack/hub/recognizers
    case $1 in
        1)
            cp -r hub/recognizers/sface .pack/hub/recognizers/
            cp -r hub/manipulators/stargan-celeba128 .pack/hub/manipulators/
            pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
                --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
                --platform manylinux2014_x86_64 --dest .pack/wheels "${wheels[@]}"
            ;;
        2) cp -r hub/manipulators/{attentiongan,fpgan,relgan}-celeba128 .pack/hub/manipulators/ ;;
        3)
            cp -r hub/protectors/default .pack/hub/protectors/
            mkdir .pack/faces && cp "$2/train.csv" "$2/train-0.tar" .pack/faces/
            art-idguard train --recipe hub/recipes/protector-kpi.toml --faces .pack/faces --start hub/protectors/default \
                --regions .pack/regions.safetensors --weighting uniform --batch-size 1 --steps 1 --output "$(mktemp -d)"
            ;;
    esac
    du -sh .pack
}

run() {
    out=$1 minutes=$2
    trap 'cp "$kept"/protector/log.jsonl "$out/" || true' EXIT
    cp -r "$kept/hub/." hub/
    python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$kept/site" "$kept"/wheels/*.whl
    export PYTHONPATH=$PWD:$kept/site PYTHONUNBUFFERED=1
    timeout 120 python3 -m pytest -W default -p no:cacheprovider tests/test_one_device.py -k "numpy and cuda" 2>&1 |
        tee "$out/one_device.txt" || true
    timeout 180 python3 examples/benchmark.py train-manipulator --faces "$kept/faces" --channels 64 --batch 16 \
        --steps 300 --limit 2000 2>&1 | tee "$out/speed.txt" || true
    python3 -m art_idguard.cli train --recipe hub/recipes/protector-kpi.toml --faces "$kept/faces" \
        --start hub/protectors/default --regions "$kept/regions.safetensors" --minutes "$minutes" \
        --output "$kept/protector" --quiet 2>&1 | tee "$out/train.txt"
    python3 -c "import sys; from art_idguard import Protector
Protector.from_pretrained(sys.argv[1]).half().save_pretrained(sys.argv[2])" "$kept/protector/protector" "$out/protector"
}

case ${1:-} in
    pack) pack "$2" "${3:-}" ;;
    keep) mkdir -p "$kept" && cp -r .pack/. "$kept/" ;;
    run) mkdir -p "$2" && run "$2" "$3" ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;;
esac
