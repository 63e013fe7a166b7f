#!/bin/sh
# Runs both examples of README.md with the binary $1 and compares what was found.
set -eu
cd "$(dirname "$0")/../.."
shakedown=${1:?usage: check.sh BINARY}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

run() { # NAME WANTED-EXIT-CODE ARGUMENTS..
    name=$1 wanted=$2
    shift 2
    code=0
    "$shakedown" run --env examples/other-app/environment.toml --allow-process shop \
        --results-dir "$results" --output-format json "$@" >"$results/$name.json" || code=$?
    if [ "$code" -ne "$wanted" ]; then
        echo "$name: exit code $code, not $wanted" >&2
        cat "$results/$name.json" >&2
        exit 1
    fi
}

run healthy 0 'smd.*'
run failing 10 'smd.*' --set application.environment.FAIL_AT=store
# The shop's known failure is data, too: reproduced there, and not in the healthy one.
known=examples/other-app/store-gives-up.toml
run reproduced 0 'smd.*' --set application.environment.FAIL_AT=store --reproduce "$known"
run not-reproduced 20 'smd.*' --reproduce "$known"
# Nobody named the process: it is not run, and nothing is found.
"$shakedown" run --env examples/other-app/environment.toml --results-dir "$results" \
    --output-format json smd.exit-code >"$results/unnamed.json" || true

python3 - "$results" <<'END'
import json, sys

def load(name):
    with open(f"{sys.argv[1]}/{name}.json") as file:
        return {probe["id"]: probe for probe in json.load(file)["probes"]}

def numbers(probe):
    return {m["name"]: m["value"] for m in probe.get("measurements", [])}

def verdict(probe):
    return probe["verdict"]

healthy, failing, unnamed = load("healthy"), load("failing"), load("unnamed")
stages = ["phase_boot", "phase_settings", "phase_store", "phase_serve"]
phases = healthy["smd.phase-dependencies"]
assert verdict(phases) == "pass", phases
# Lines are timed when they arrive, and a busy machine reads the first of a stage late.
assert all(numbers(phases)[stage] >= 0.02 for stage in stages[:3]), phases
assert verdict(healthy["smd.phase3-timeout"]) == "pass", healthy["smd.phase3-timeout"]
assert verdict(healthy["smd.cleanup-after-failure"]) == "pass", healthy["smd.cleanup-after-failure"]

code = failing["smd.exit-code"]
assert verdict(code) == "fail" and numbers(code)["exit_code"] == 7, code
store = failing["smd.phase3-timeout"]
assert verdict(store) == "fail" and numbers(store)["claimed_timeout"] == 0.2, store
assert numbers(store)["database_phase"] >= 0.02, store
assert verdict(failing["smd.phase-dependencies"]) == "pass", "no stage began after the failed one"
assert "phase_serve" not in numbers(failing["smd.phase-dependencies"])

skipped = unnamed["smd.exit-code"]
assert verdict(skipped) == "skip" and "--allow-process shop" in json.dumps(skipped), skipped
print("other-app: stages, durations and exit code are right by TOML alone")
END
