"""YAML made to come to more than any memory holds: one line, at once; what people write is read as it was."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tasks.config import load_config
from tasks.errors import ConfigError
from tasks.prompts.templates.templates import read_templates
from tasks.runtime.bounded_yaml import load_yaml
from tasks.validate.load_contract import load_contract

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
BOMBS = {
    "names of names": LAUGHS,
    "merged mappings": "a0: &a0 {x: y}\n"
    + "".join(f"a{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}\n" for n in range(1, 40)),
    "itself": "a: &a [*a]\n",
    "lists in lists": "a: " + "[" * 100_000,
    "mappings in mappings": "a: " + "{a: " * 5_000,
    "entries in entries": "- " * 50_000 + "x",
    "a long number": "a: " + "9" * 10_000,
    "no end": "a: '" + "x" * 9_000_000 + "'",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_one_line_at_once_in_every_file_that_is_yaml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    start = time.process_time()
    for read in (load_config, load_contract):
        with pytest.raises(ConfigError) as error:
            read(path)
        assert "not readable as YAML" in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600
    with pytest.raises(ConfigError, match="not readable as YAML"):
        read_templates(tmp_path)
    assert time.process_time() - start < 5


def test_names_that_people_use_are_read() -> None:
    text = "base: &base {rank: 8, layers: [q, v]}\none:\n  <<: *base\n  rank: 16\ntwo: [*base, *base]\n"
    result = load_yaml(text)
    assert result["one"] == {"rank": 16, "layers": ["q", "v"]}
    assert result["two"] == [{"rank": 8, "layers": ["q", "v"]}] * 2
    assert load_yaml(text, "rt")["one"]["rank"] == 16


def test_brackets_in_texts_are_no_depth_that_matters() -> None:
    assert load_yaml("a: '" + "[]" * 500 + "'")["a"] == "[]" * 500


@pytest.mark.parametrize("text", ["judge: {base_url: http://a:1/v1, model: x}\n", "urls: [s3://数据/文件]\n"])
def test_yaml_that_dvc_cannot_read_is_an_error_before_a_run(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"base:\n  model: x\n{text}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 3.*in quotes"):
        load_config(path)


def test_an_error_has_its_line_and_no_text_of_the_parser() -> None:
    with pytest.raises(ValueError, match=re.escape('line 3: found duplicate key "promote"') + "$"):
        load_yaml("promote: {}\nbase: a\npromote:\n  approval: none\n")
    with pytest.raises(ValueError, match=r"line 3: did not find expected ',' or '\]' \(.* that began in line 1\)$"):
        load_yaml("a: [1,\nb: 2")
