"""The reports and predictions of a run, written without training: two families, in English and Chinese, with hostile rows."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa

from support.project import params
from tasks import paths
from tasks.runtime.files import write_json, write_parquet
from tasks.runtime.json_lines import append_line

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
BIDI = "pay \u202e001 ot"
LABELS = ("sport", "体育", "business", "科技")
PROMPTS = (
    "Which section is article {n} in? It reports on a match that nobody expected to end so early.",
    "第{n}篇文章属于哪个版面？",
)


def write_run(passed: bool = False, champion: bool = True, rows: int = 120) -> None:
    """Writes params.yaml and everything in data/ that the report of a run reads."""
    roles = ["base", *(["champion"] if champion else []), "candidate"]
    chance = random.Random(7)
    for role in roles:
        share = {"base": 0.3, "champion": 0.75, "candidate": 0.85}[role]
        table = [_row(number, chance.random() < share) for number in range(rows)]
        write_parquet(paths.PREDICTIONS / f"{role}.parquet", pa.Table.from_pylist(table))
    model = {
        "weights_digest": "d" * 64,
        "overall": {"score": 0.8, "rows": rows, "interval": [0.7, 0.9]},
        "families": {},
    }
    write_json(paths.METRICS, {"test_rows": rows, "models": dict.fromkeys(roles, model)})
    write_json(paths.VERDICT, verdict(passed, champion, rows))
    of_champion = {"version": 3, "weights_digest": "c" * 64, "batches": ["old"]}
    write_json(paths.ROUND, {"champion": of_champion if champion else None, "test_epoch": 1, "looks": 1})
    write_json(paths.PARAMS, params("base", []))
    for step in range(0, 60, 4):
        point = {"step": step, "loss": 3 / (1 + step / 9), "learning_rate": 1e-3 * (1 - step / 60)}
        append_line(
            paths.MODEL / "curves.jsonl", point | ({"valid_loss": 3.1 / (1 + step / 10)} if step % 12 == 0 else {})
        )


def verdict(passed: bool, champion: bool, rows: int) -> dict[str, Any]:
    def check(
        name: str, family: str | None, ok: bool | None, number: float, bound: float, *interval: float
    ) -> dict[str, Any]:
        return {
            "name": name, "family": family, "passed": ok, "number": number, "bound": bound, "tier": "critical",
            "interval": list(interval), "rows": rows if family is None else rows // 2, "detail": f"the gate's detail of {name}",
        }  # fmt: skip

    return {
        "passed": passed, "reference": "champion" if champion else "base", "champion_version": 3 if champion else None,
        "candidate_digest": "d" * 64, "alpha_spent": 0.025, "test_epoch": 1, "look": 2, "test_rows": rows,
        "checks": [
            check("floor", None, True, 0.85, 0.6, 0.8, 0.9),
            check("not_worse/qa", "qa", passed, -0.02, -0.05, -0.11, 0.04),
            check("not_worse/topic", "topic", True, 0.1, -0.05, 0.03, 0.18),
            check("better", None, True, 0.004, 0.025, 0.02, 0.14),
        ],
    }  # fmt: skip


def _row(number: int, is_right: bool) -> dict[str, Any]:
    is_topic, is_chinese = number % 2 == 0, number % 4 < 2
    target = LABELS[number // 2 % 4] if is_topic else ("北京是中国的首都。" if is_chinese else "Paris is the capital.")
    answer = (
        target
        if is_right
        else ("politics" if is_topic else "不知道。" if is_chinese else "It is a large city, I think.")
    )
    prompt = PROMPTS[is_chinese].format(n=number)
    if number == 1:
        prompt, answer = f"{HOSTILE} {prompt}", HOSTILE
    if number == 3:
        answer = BIDI
    return {
        "row_id": f"{number:032x}", "batch": "old" if number % 3 else "new", "family": "topic" if is_topic else "qa",
        "kind": "classification" if is_topic else "answer", "language": "zh" if is_chinese else "en", "prompt": prompt,
        "target": target, "prediction": answer, "read": answer, "is_unparsed": False, "is_looping": number == 5,
        "score": float(is_right), "exact": is_right,
    }  # fmt: skip
