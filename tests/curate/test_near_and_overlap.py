"""Room `curate`: near-duplicates, splits that do not change, and no training row that overlaps a held-out row."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.toy_curation import (
    WORDS,
    batch_of,
    check_no_pair_is_in_two_splits,
    curate,
    dropped,
    sentence,
    some_rows,
    split_of_text,
    splits,
    splits_of,
    texts_in,
)

from tasks import paths
from tasks.curate.dedup.minhash import bands_of, fingerprints_of, rows_in_band, runs_of, shingles_of
from tasks.curate.dedup.tokens import tokenise
from tasks.dataset.read import read_dataset
from tasks.records.segmentation import segment, segment_with_symbols
from tasks.runtime.files import file_digest
from tasks.state.decisions import record_decision


@given(st.lists(st.text(), max_size=5))
@example(["⺀ Ⓐb 2⁵ -5 3.14 C++"])
@settings(deadline=None)
def test_texts_tokenised_at_once_have_the_tokens_of_the_shared_segmentation(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    result = tokenise(texts)
    assert result.counts().tolist() == [len(segment(text)) for text in texts]
    assert tokenise(texts, with_symbols=True).counts().tolist() == [len(segment_with_symbols(text)) for text in texts]
    hashes: dict[str, int] = {}
    for token, number in zip((t for text in texts for t in segment(text)), result.hashes.tolist(), strict=True):
        assert hashes.setdefault(token, number) == number
    assert len(set(hashes.values())) == len(hashes)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=13, max_size=60), st.integers(0, 40), st.data())
@settings(max_examples=60)
def test_two_texts_that_share_thirteen_tokens_share_a_fingerprint(letters: list[str], cut: int, data: Any) -> None:
    start = data.draw(st.integers(0, len(letters) - 13))
    shared = letters[start : start + 13]
    first = [f"x{i}" for i in range(cut)] + shared + ["y"] * 5
    second = ["z"] * 3 + shared + [f"w{i}" for i in range(cut)]
    tokens = tokenise([" ".join(first), " ".join(second)])
    fingerprints, offsets = fingerprints_of(tokens)
    assert set(fingerprints[: offsets[1]].tolist()) & set(fingerprints[offsets[1] :].tolist())
    assert set(runs_of(tokens, 0, 13)) & set(runs_of(tokens, 1, 13))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_planted_near_duplicates_share_a_band_and_strangers_do_not(language: str) -> None:
    draw = random.Random(4)
    originals = [sentence(draw, 60, language) for _ in range(300)]
    if language == "en":
        planted = [" ".join(["word", *text.split()[1:]]) for text in originals]
    else:
        planted = ["国" + text[1:] for text in originals]
    bands = bands_of(*shingles_of(tokenise([*originals, *planted])), rows_in_band(0.8))
    met = (bands[:300] == bands[300:]).any(axis=1)
    assert met.mean() >= 0.99
    strangers = (bands[:300] == np.roll(bands[:300], 1, axis=0)).any(axis=1)
    assert strangers.mean() <= 0.01


def test_a_near_duplicate_of_an_earlier_row_is_dropped_and_the_earlier_leads(project: Path) -> None:
    (text,) = texts_in("train", 1)
    first = batch_of(1, [*some_rows(), (text, "yes")])[-1]
    second = batch_of(2, [("Please: " + text + " indeed!", "yes")])[0]
    report = curate(project)
    assert dropped(2) == [(second["row_id"], "near_duplicate", first["row_id"])]
    assert report["dropped"] == {"near_duplicate": 1}


@pytest.mark.parametrize("mode", ["drop", "keep"])
def test_another_answer_to_nearly_the_same_prompt_is_in_the_split_of_the_first(project: Path, mode: str) -> None:
    test_texts = texts_in("test", 4)
    changed = [text + " indeed" for text in test_texts]
    batch_of(1, [*some_rows(), *((text, "yes") for text in test_texts)])
    seconds = batch_of(2, [(text, "an altogether different answer") for text in changed])
    curate(project, near_duplicates=mode)
    assert {split_of_text(text) for text in changed} != {"test"}, "by their own hash they would stand elsewhere"
    assert splits_of(seconds) == ["test"] * 4


def test_a_row_near_rows_of_two_splits_is_dropped_as_a_cross_split_duplicate(project: Path) -> None:
    words = [f"{word}{number}" for number, word in enumerate(WORDS * 8)][:120]

    def with_others(places: range, split: str) -> str:
        """The text with four words changed, so that it stands on a side by its own hash."""
        for number in range(1000):
            changed = [f"other{number}" if index in places else word for index, word in enumerate(words)]
            if split_of_text(" ".join(changed)) == split:
                return " ".join(changed)
        raise AssertionError

    train, test = with_others(range(5, 50, 12), "train"), with_others(range(65, 110, 12), "test")
    first, second = batch_of(1, [*some_rows(), (train, "a"), (test, "b")])[-2:]
    joined = batch_of(2, [(" ".join(words), "c")])[0]
    curate(project, decontaminate=False)
    assert (splits()[first["row_id"]], splits()[second["row_id"]]) == ("train", "test"), (
        "they do not resemble each other"
    )
    assert dropped(2) == [(joined["row_id"], "bridges_splits", f"{first['row_id']} {second['row_id']}")]


def test_the_same_prompt_in_a_golden_set_takes_the_training_row_out(project: Path) -> None:
    (text,) = texts_in("train", 1)
    trained = batch_of(1, [*some_rows(), (text, "yes")])[-1]
    curate(project)
    assert splits()[trained["row_id"]] == "train"
    golden = batch_of(2, [(text + " indeed", "yes")], use="golden")[0]
    report = curate(project)
    assert trained["row_id"] not in splits()
    assert splits()[golden["row_id"]] == "test"
    assert dropped(2) == [(trained["row_id"], "contaminated", golden["row_id"])]
    assert report["taken_out_later"] == {"contaminated": 1}
    assert report["kept"] == read_dataset().num_rows


@pytest.mark.parametrize("language", ["en", "zh"])
def test_rows_that_share_a_passage_are_in_the_split_of_the_first_whichever_that_is(
    project: Path, language: str
) -> None:
    tests = texts_in("test", 2, language=language)
    piece = [" ".join(text.split()[5:33]) if language == "en" else text[5:33] for text in tests]
    draw = random.Random(1)
    planted = [f"{sentence(draw, language=language)} {each} {sentence(draw, language=language)}" for each in piece]
    planted = [
        text + " x" * next(n for n in range(99) if split_of_text(text + " x" * n) == "train") for text in planted
    ]
    before = batch_of(1, [*some_rows(), (planted[0], "yes")])[-1]
    held = batch_of(2, [(text, "yes") for text in tests])
    after = batch_of(3, [(planted[1], "yes")])[0]
    report = curate(project)
    assert report["dropped"] == {}
    assert splits_of([before, held[0]]) == ["train", "train"]
    assert splits_of([held[1], after]) == ["test", "test"]


def test_benchmark_rows_are_in_no_split_and_remove_overlapping_training_rows(project: Path) -> None:
    (text,) = texts_in("train", 1)
    benchmark = batch_of(1, [(text, "yes")], use="benchmark")[0]
    trained = batch_of(2, [*some_rows(), ("so it begins: " + text, "no")])[-1]
    curate(project)
    assert benchmark["row_id"] not in splits()
    assert trained["row_id"] not in splits()
    assert ("contaminated", benchmark["row_id"]) in [(reason, value) for _, reason, value in dropped(2)]


def test_boilerplate_that_many_rows_share_is_no_contamination(project: Path) -> None:
    template = (
        "read the following customer message carefully and then say in one word what the customer wants from us: "
    )
    draw = random.Random(2)
    batch_of(1, [(template + sentence(draw), "yes") for _ in range(60)])
    report = curate(project, common_passage_rows=20)
    assert report["dropped"] == {}


def test_made_rows_are_never_tested_on(project: Path) -> None:
    texts = [(text, "made") for text in texts_in("test", 6, seed=3)]
    batch_of(1, some_rows())
    made = batch_of(2, texts, synthetic="paraphrase")
    curate(project)
    assert set(splits_of(made)) == {"train"}


def test_a_forgotten_row_is_removed_and_its_followers_keep_their_split(project: Path) -> None:
    leader_text = texts_in("test", 1)[0]
    representative = batch_of(1, [*some_rows(), (leader_text, "yes")])[-1]
    follower = batch_of(2, [(leader_text + " indeed", "another answer")])[0]
    curate(project)
    assert splits()[follower["row_id"]] == "test"
    record_decision("forget", representative["row_id"], "asked to")
    curate(project)
    assert representative["row_id"] not in splits()
    assert splits()[follower["row_id"]] == "test"
    kept = (paths.CURATED / "000001-b1.parquet").read_bytes()
    assert leader_text.encode() not in kept
    assert all(row_id != representative["row_id"] for row_id, _, _ in dropped(1))


def test_rows_keep_the_split_of_a_batch_that_is_excluded(project: Path) -> None:
    texts = texts_in("test", 3)
    batch_of(1, some_rows())
    batch_of(2, [(text, "yes") for text in texts])
    followers = batch_of(3, [(text + " indeed", "another answer") for text in texts])
    curate(project)
    before = splits()
    (paths.VALIDATED / "000002-b2.parquet").unlink()
    record_decision("exclude", "b2", "a test")
    curate(project)
    assert {row["row_id"]: before[row["row_id"]] for row in followers}.items() <= splits().items()


@pytest.mark.parametrize("use", ["train", "golden", "benchmark"])
def test_an_excluded_batch_leaves_the_dataset_as_it_was_before_it_came(project: Path, use: str) -> None:
    (trained,) = texts_in("train", 1)
    (held,) = texts_in("test", 1)
    passage = " ".join(trained.split()[5:25])
    batch_of(1, [*some_rows(), (trained, "yes"), (held, "yes")])
    curate(project)
    before = {path.name: file_digest(path) for path in paths.CURATED.glob("*")}
    new = [f"{held} {passage} {number}" for number in range(40)]
    new = [text for text in new if split_of_text(text) == "test"]
    batch_of(2, [(text, "a bad answer") for text in [*new, trained + " indeed"]], use=use)
    curate(project, near_duplicate_threshold=0.8)
    assert {path.name: file_digest(path) for path in paths.CURATED.glob("*")} != before
    (paths.VALIDATED / "000002-b2.parquet").unlink()
    record_decision("exclude", "b2", "a test")
    curate(project)
    assert {path.name: file_digest(path) for path in paths.CURATED.glob("*")} == before


@pytest.mark.parametrize("family", ["qa", "other"])
@pytest.mark.parametrize("what", ["exclude", "forget"])
def test_tombstones_are_not_removed_again(project: Path, what: str, family: str) -> None:
    """The report subtracted them from the rows that are there, or stopped at a family that no row has any more."""
    draw = random.Random(4)
    passage = sentence(draw, 80)
    first = batch_of(1, [(f"{passage} {n} who?", str(n)) for n in range(5)], family=family)
    batch_of(2, [*some_rows(), *((sentence(draw, 30), "yes") for _ in range(40))])
    curate(project)
    for which in ["b1"] if what == "exclude" else [row["row_id"] for row in first]:
        record_decision(what, which, "a test")  # type: ignore[arg-type]
    if what == "exclude":
        (paths.VALIDATED / "000001-b1.parquet").unlink()
    batch_of(3, [(f"{passage} 9 when?", "then")], use="golden")
    report = curate(project)
    on = Counter(splits().values())
    assert report["splits"] == {split: on[split] for split in ("train", "valid", "test")}
    assert report["taken_out_later"] == {}
    assert not paths.QUARANTINE.joinpath("curate/000003-b3.parquet").exists(), "of a forgotten row no text is kept"


def test_a_released_row_is_kept_though_it_is_nearly_another(project: Path) -> None:
    (text,) = texts_in("train", 1)
    batch_of(1, [*some_rows(), (text, "yes")])
    again = batch_of(2, [(text + " indeed", "yes")])[0]
    curate(project)
    assert again["row_id"] not in splits()
    record_decision("release", again["row_id"], "I want both")
    curate(project)
    assert splits()[again["row_id"]] == "train"


@given(st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_batches_one_by_one_give_the_bytes_of_one_run_over_all(tmp_path_factory: Any, seed: int) -> None:
    root = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        draw = random.Random(seed)
        pool = [sentence(draw, draw.choice([3, 20, 40]), draw.choice(["en", "zh"])) for _ in range(25)]
        for number in range(1, 5):
            rows = []
            for _ in range(draw.randrange(1, 16)):
                text = draw.choice(pool)
                text += draw.choice(["", "", " indeed", " " + draw.choice(pool)])
                rows.append((text, draw.choice(["yes", "no", text[:50]])))
            batch_of(number, [*rows, *some_rows(seed + number)], use="golden" if number == 3 else "train")
            curate(root)
        step_by_step = {path.name: file_digest(path) for path in paths.CURATED.glob("*")}
        check_no_pair_is_in_two_splits()
        shutil.rmtree(".strop")
        curate(root)
        assert {path.name: file_digest(path) for path in paths.CURATED.glob("*")} == step_by_step


def test_the_result_does_not_depend_on_the_number_of_processes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.curate import sketch_batch

    monkeypatch.setattr(sketch_batch, "ROWS_AT_ONCE", 40)
    monkeypatch.setattr(sketch_batch, "ROWS_WORTH_A_PROCESS", 50)
    draw = random.Random(5)
    batch_of(1, [(sentence(draw), "yes") for _ in range(200)])
    curate(project, processes=1)
    one = {path.name: file_digest(path) for path in paths.CURATED.glob("*")}
    shutil.rmtree(".strop")
    curate(project, processes=2)
    assert {path.name: file_digest(path) for path in paths.CURATED.glob("*")} == one
