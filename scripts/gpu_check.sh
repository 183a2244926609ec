#!/bin/sh
# Is charnn correct and fast on this GPU? Runs the tests and benchmarks that need one, in about ten
# minutes, and prints the rows for BENCHMARKS.md.
#
#     sh scripts/gpu_check.sh data/tinyshakespeare.txt | tee gpu.md
set -u
text=${1:?give the path of a text, such as data/tinyshakespeare.txt}
python=${PYTHON:-python}

part() { # TITLE TIME_LIMIT_IN_SECONDS COMMAND...
    printf '\n## %s\n\n`%s`\n\n' "$1" "$(shift 2; echo "$*")"
    seconds=$2
    shift 2
    timeout "$seconds" "$@" 2>&1 || echo "(ended with exit code $?)"
}

part 'Machine' 60 "$python" -m charnn doctor
part 'Tests' 100 "$python" -m pytest -q -m gpu
part 'Training speed' 90 "$python" scripts/bench_train.py --precision fp16 --lanes 64
part 'Training speed, float32' 30 "$python" scripts/bench_train.py --lanes 64 --sizes 2x768
part 'Training speed, eager steps' 30 \
    "$python" scripts/bench_train.py --precision fp16 --lanes 64 --sizes 2x768 --eager
part 'Training speed, deterministic' 30 \
    "$python" scripts/bench_train.py --precision fp16 --lanes 64 --sizes 2x768 --deterministic
part 'Sampling speed' 100 "$python" scripts/bench_sample.py --device cuda
part 'Learning' 100 "$python" scripts/bench_learn.py "$text" --minutes 0.5 --seeds 1 2
part 'Kills' 120 "$python" scripts/torture.py --kills 20 --device cuda
