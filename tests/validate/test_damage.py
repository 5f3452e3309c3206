"""Wrongly decoded text is detected in English and Chinese, and sound text is not."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.measures.mojibake import mojibake_runs, pattern_of_damage, replacement_characters

SOUND = [
    "", "plain", "São Tomé, Größe, naïve café", "„Spaß“, sagte er: “Olé”… ÷ 20 °C", "ÉTÉ”—“À”", "Привет, мир", "مرحبا",
    "今天天气很好，我们去公园散步吧。《论语》：“学而时习之，不亦说乎？”",
    "联通移动电信", "龘靐齉爩魑魅魍魉", "日本語のテキスト", "한국어 텍스트",
    "€ 5 – 10 %", "Ångström ½ ¾ × 3", "🙂👍🏽", "東京都 ＡＢＣ",
]  # fmt: skip


@pytest.mark.parametrize("text", SOUND)
def test_sound_text_is_left_alone(text: str) -> None:
    assert mojibake_runs(text) == 0
    assert replacement_characters(text) == 0


@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", ["it’s “quoted”", "café", "£5", "你好世界", "Привет", "a — b"])
def test_utf8_read_as_western_is_found(text: str, wrong: str) -> None:
    misread = text.encode().decode(wrong, "replace").replace("\ufffd", "\x81")
    assert mojibake_runs(misread) >= 1


@pytest.mark.parametrize("text", ["你好世界", "我们今天去公园", "机器学习模型训练完成了"])
def test_utf8_read_as_gbk_is_found(text: str) -> None:
    assert mojibake_runs(f"前 {text.encode().decode('gbk', 'ignore')} 后") >= 1


def test_lost_characters_are_counted() -> None:
    assert replacement_characters("a\ufffdb\ufffd") == 2
    assert mojibake_runs("锟斤拷锟斤拷") >= 1


@settings(deadline=None)
@given(
    st.text(st.sampled_from("aé’â€™Ã©锟斤拷你好世界浣犲ソ涓栫晫，。 \ufffd\ue000ÿ")),
    st.sampled_from(["gbk", "cp1252", "latin-1", None]),
)
def test_the_pattern_that_spares_python_the_look_misses_no_damage(text: str, wrong: str | None) -> None:
    misread = text if wrong is None else text.encode().decode(wrong, "replace")
    result = pc.match_substring_regex(pa.array([misread]), pattern_of_damage())[0].as_py()
    assert result or not (mojibake_runs(misread) or replacement_characters(misread))


@pytest.mark.parametrize("text", ["", "plain", "今天天气很好，我们去公园散步吧。", "Привет, мир", "日本語のテキスト"])
def test_most_sound_text_is_spared(text: str) -> None:
    assert not pc.match_substring_regex(pa.array([text]), pattern_of_damage())[0].as_py()
