"""Which mapping of episodes and which form of convolutions make a MAML step fastest.

    python scripts/bench/gpu_choices.py --episodes=32

Each of ``vmap`` (all episodes in parallel), ``scan`` (one after the other) and chunks is measured
with each form of convolutions, in turn, beside what ``auto`` takes. That is decided in
`vitjax.meta.mapping.pieces` (the mapping) and by `vitjax.nn.convolution.INNER_LOOP_IMPL`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from typing import Any

import jax
import maml  # type: ignore[import-not-found]

from vitjax.cli import process
from vitjax.meta import mapping as mappings
from vitjax.nn.convolution import INNER_LOOP_IMPL

# A turn has as many steps as take this many seconds.
TURN = 0.2


def main() -> None:
    arguments = parse()
    process.start_devices()
    case = dataclasses.replace(
        maml.CASES[arguments.case],
        episodes=arguments.episodes,
        inner_steps=arguments.inner_steps,
        filters=arguments.filters,
    )
    at_once = {"vmap": arguments.episodes, "scan": 1, "chunks": arguments.chunk}
    forms = {
        (mapping, conv_impl): dataclasses.replace(case, at_once=number, conv_impl=conv_impl)
        for conv_impl in ("matmul", "lax")
        for mapping, number in at_once.items()
    }
    runs: dict[tuple[str, str], Any] = {}
    failed: dict[str, str] = {}
    for form, of_form in forms.items():
        try:
            ours = maml.Vitjax(of_form)
            ours.run(1)
        except RuntimeError as error:  # memory, above all
            failed[", ".join(form)] = str(error).split("\n")[0]
            print(f"{', '.join(form)}: {failed[', '.join(form)]}", file=sys.stderr)
            continue
        runs[form] = ours.run
    seconds: dict[tuple[str, str], list[float]] = {form: [] for form in runs}
    steps = {form: max(1, round(TURN / seconds_of(run(1)))) for form, run in runs.items()}
    for _ in range(arguments.rounds):
        for form, run in runs.items():
            seconds[form].append(seconds_of(run(steps[form])) / steps[form])
    ms = {form: 1e3 * statistics.median(times) for form, times in seconds.items()}
    auto = (automatic(case, at_once), INNER_LOOP_IMPL)
    for form, median in sorted(ms.items(), key=lambda item: item[1]):
        print(f"{', '.join(form):>16} {median:10,.2f} ms{' (auto)' if form == auto else ''}")
    if ms:
        best = min(ms, key=lambda form: ms[form])
        print(f"{', '.join(best)} wins on {jax.devices()[0].device_kind}; auto: {', '.join(auto)}")
    row = {
        "kind": "maml choices",
        "case": case.name,
        "batch": case.episodes,
        "unit": "ms",
        "auto": auto,
        "choices": [
            {"mapping": mapping, "conv_impl": conv_impl, "ms": ms.get((mapping, conv_impl))}
            for mapping, conv_impl in forms
        ],
        "failed": failed,
    }
    if arguments.json:
        with open(arguments.json, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def seconds_of(answer: Any) -> float:
    """The seconds of `maml.Vitjax.run`, which also gives the loss."""
    seconds, _ = answer
    return float(seconds)


def automatic(case: Any, at_once: dict[str, int]) -> str:
    """The mapping that vitjax chooses by itself for a case."""
    chosen: list[int] = []
    decide = mappings.pieces

    def noted(*positional: Any, **keywords: Any) -> int:
        chosen.append(decide(*positional, **keywords))
        return chosen[-1]

    batch = case.batch()
    objective = case.objective()
    variables = jax.eval_shape(objective.init, jax.random.key(0), batch)
    state = {name: value for name, value in variables.items() if name != "params"}
    mappings.pieces = noted
    try:
        jax.eval_shape(objective.gradients, variables["params"], state, batch, jax.random.key(0))
    finally:
        mappings.pieces = decide
    parallel = case.episodes // chosen[0]
    return next((name for name, number in at_once.items() if number == parallel), "chunks")


def parse() -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--case", choices=maml.CASES, default="omniglot")
    parser.add_argument("--episodes", type=int, default=32, help="in a batch (default: 32)")
    parser.add_argument("--chunk", type=int, default=8, help="episodes of a chunk (default: 8)")
    parser.add_argument("--inner-steps", type=int, default=maml.INNER_STEPS)
    parser.add_argument("--filters", type=int, help="of each convolution (default: the case's)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each form (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="append the result to a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
