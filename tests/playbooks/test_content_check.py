"""Refused words in a wording file are told with file and line, as every other fault."""

from pathlib import Path

from orderbell.playbooks import check_playbook


def test_refused_words_are_told_by_file_and_line(tmp_path: Path) -> None:
    """A merchant's own text is checked, and the line of the text is named."""
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nextends: retail\n", encoding="utf-8")
    (tmp_path / "wording").mkdir()
    words = "texts:\n  delivered:\n    sms:\n      - 订单{order_no}已送达，谢谢！\n      - 订单{order_no}已送达，请加 V 信。\n"
    (tmp_path / "wording" / "zh-CN.yaml").write_text(words, encoding="utf-8")
    _, [line] = check_playbook(own)
    place, _, said = line.removeprefix(f"{tmp_path}/").partition(": ")
    assert place == "wording/zh-CN.yaml:5"
    assert said.startswith("wording.zh-CN.texts.delivered.sms.1: '加v信' lures into a private chat")
    assert said.endswith("write 请直接回复 or 请联系客服, and no account")
