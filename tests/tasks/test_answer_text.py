"""Texts of other models: every spelling of a value is read as it, and what states none is not read."""

from __future__ import annotations

import pytest

from smolrgpt.evaluation.benchmarks.spatial_answers import parse_choice, parse_length, parse_predicate
from smolrgpt.tasks import read_answer
from smolrgpt.tasks.answer_text import plain_answer

FAR = "How far is <mask> from <mask>?"
COUNT = "How many of the pallets <mask> <mask> are in the buffer <mask>?"
SIDE = "Is the pallet <mask> left or right of the pallet <mask>?"
LEFT = "Is the pallet <mask> to the left of the pallet <mask>?"
CHOICE = "Which of <mask>, <mask> and <mask> is the leftmost?"

LENGTHS = {
    2.5: (
        "2.5 m",
        "2,5 m",
        "2.50 meters",
        "2,50 metres",
        "250 cm",
        "2500 mm",
        "2,500 mm",
        "2 500 mm",
        "2\u2009500 mm",
        "2\u202f500\u00a0mm",
        "2.500,0 mm",
        "2'500 mm",
        "2.5m",
        "2.5-meter",
        "**2.5 m**",
        "`2.5 m`",
        "$2.5\\,\\text{m}$",
        "\\(2.5 \\mathrm{m}\\)",
        "\\[ 2.5~\\text{meters} \\]",
        "\\boxed{2.5\\ \\text{m}}",
        "\\boxed{2{,}5\\,\\mathrm{m}}",
        "$\\frac{5}{2}$ m",
        "\\SI{2.5}{\\metre}",
        "\\qty{2.5}{m}",
        "$\\approx 2.5$ m",
        "2 1/2 m",
        "5/2 m",
        "2\u00bd m",
        "2 \u00bd metres",
        "two and a half metres",
        "two point five metres",
        "Approximately two and a half metres",
        "about 2.5 m",
        "~2.5 m",
        "2.5e0 m",
        "0.25e1 m",
        "$2.5 \\times 10^{0}$ m",
        "0.0025 km",
        "2 to 3 m",
        "2-3 m",
        "2\u20133 m",
        "between 2 and 3 metres",
        "2 m to 3 m",
        "2.5 \u00b1 0.3 m",
        "2.5 +/- 0.3 m",
        "$2.5 \\pm 0.3$ m",
        "2 m 50 cm",
        "98.43 inches",
        "8 ft 2.43 in",
        "8'2.43\"",
        "8\u20322.43\u2033",
        "8 feet, 2.43 inches",
        "2.734 yards",
        "2.5 (meters)",
        "2.5 [m]",
        "2.500 mm",
        "2.0m\u20133.0m",
        '98.43"',
        "8.2021'",
    ),
    0.5: ("half a metre", "half a meter", "a half metre", "0,5 m", ".5 m", "\u00bd m", "1/2 m", "50 cm", "$\\dfrac{1}{2}\\,\\mathrm{m}$"),
    1.5: (
        "one and a half metres",
        "a metre and a half",
        "1\u00bd m",
        "1,5\u00a0m",
        "one point five meters",
        "one hundred and fifty centimetres",
    ),
    0.25: ("a quarter of a metre", "0,250 m", "250 mm", "\u00bc m"),
    1.25: ("1.250 m", "1,250 mm", "1 250 mm", "1.250,0 mm", "1,250.0 mm"),
    1250.0: ("1,250 m", "1.250,0 m", "1.25 km"),
}
SENTENCES = ("{}", "{}.", "The distance is {}.", "It is {} away.", "So the answer is **{}**", "The box [Region 0] is {} from [Region 12].")


@pytest.mark.parametrize(("metres", "spelling"), [(metres, spelling) for metres, spellings in LENGTHS.items() for spelling in spellings])
def test_every_spelling_of_a_length_is_that_length(metres: float, spelling: str) -> None:
    for sentence in SENTENCES:
        text = sentence.format(spelling)
        assert read_answer(FAR, text) == pytest.approx(metres, rel=1e-3), text
        assert parse_length(text) == pytest.approx(metres, rel=1e-3), text


@pytest.mark.parametrize(
    "text", ["2.5", "2,5", "$2.5$", "\\boxed{2.5}", "**2.5**", "(2.5)", "about 2.5", "2.5e0", "~2.5", "$\\boxed{2{,}5}$"]
)
def test_a_number_alone_is_metres(text: str) -> None:
    assert read_answer(FAR, text) == parse_length(text.strip("()")) == 2.5


@pytest.mark.parametrize(
    "text",
    [
        "They are 4.4.4 meters apart.",
        "It covers 2.5 m\u00b2.",
        "$2.5\\,\\text{m}^2$",
        "It moves at 2.5 m/s.",
        "-2.5 m",
        "Row 12 is far.",
        "far",
        "I cannot tell.",
        "<mask>",
        "2.5 kg",
        "1/0 m/s",
        "[Region 2] meters",
    ],
)
def test_what_is_no_length_is_not_read(text: str) -> None:
    assert read_answer(FAR, text) is None and parse_length(text) is None


@pytest.mark.parametrize(
    ("count", "texts"),
    [
        (
            0,
            (
                "0",
                "zero",
                "None",
                "None.",
                "None of them",
                "none of the pallets",
                "No pallets.",
                "There are no pallets in it.",
                "Neither.",
                "Neither of them is inside.",
                "no such objects",
                "**0**",
            ),
        ),
        (1, ("1", "one", "There is one.", "Only one", "A single pallet.", "One of them.", "One pallet", "1 of 5", "1.0", "\\boxed{1}")),
        (
            2,
            (
                "2",
                "two",
                "Both",
                "Both of them.",
                "Both pallets are inside",
                "A couple.",
                "2 out of 3",
                "Two of the three pallets",
                "There are 2 within 3 m of it.",
                "The count is $2$.",
                "2 pallets (50%)",
            ),
        ),
        (12, ("12", "a dozen", "twelve", "There are twelve pallets.")),
        (25, ("25", "twenty-five", "There are twenty-five pallets.", "twenty five")),
    ],
)
def test_every_spelling_of_a_count_is_that_count(count: int, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert read_answer(COUNT, text) == count, text


@pytest.mark.parametrize(
    "text",
    [
        "No one knows.",
        "I have no idea.",
        "No.",
        "The second one is on the left.",
        "The one on the left.",
        "2 or 3",
        "2-3 pallets",
        "between 2 to 4 pallets",
        "It is 2.5.",
        "2.5 m",
        "the 2nd",
        "Which one?",
        "50 %",
        "[Region 3]",
    ],
)
def test_what_is_no_count_is_not_read(text: str) -> None:
    assert read_answer(COUNT, text) is None


@pytest.mark.parametrize(
    ("side", "texts"),
    [
        (
            "left",
            (
                "left",
                "Left.",
                "**left**",
                "\\text{left}",
                "\\boxed{\\text{left}}",
                "To the left",
                "It is on the left-hand side.",
                "[Region 0] is to the left of [Region 1].",
                "[Region 1] is to the right of [Region 0].",
                "The first one is on the left.",
                "The second one is on the right.",
                "The latter is on the right",
                "The former is left of the latter.",
                "It is not on the right.",
                "It isn't to the right of [Region 1].",
                "[Region 1] is not to the left of [Region 0].",
                "On the right is [Region 1].",
                "Compared to [Region 1], [Region 0] is to the left.",
                "Left of [Region 1] is [Region 0].",
                "The pallet is not on the right, but on the left.",
                "That's right, it is on the left.",
                "[Region 1] is on the right.",
            ),
        ),
        (
            "right",
            (
                "right",
                "R",
                "The second one is on the left.",
                "The second is to the left of the first.",
                "The first is right of the second.",
                "[Region 7] is left of [Region 3].",
                "It is on the right, not on the left.",
                "Not left.",
                "On the left is the second one.",
            ),
        ),
    ],
)
def test_every_statement_of_a_side_is_that_side(side: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert read_answer(SIDE, text) == side, text


@pytest.mark.parametrize(
    "text", ["None", "None of them.", "No one.", "Neither left nor right.", "Neither", "Both.", "That's right.", "No idea"]
)
def test_what_is_no_side_is_not_read(text: str) -> None:
    assert read_answer(SIDE, text) is None and read_answer(LEFT, text) is None


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Yes", "left"),
        ("Yes, it is.", "left"),
        ("Yeah.", "left"),
        ("True", "left"),
        ("No", "right"),
        ("Nope", "right"),
        ("No, it is not", "right"),
        ("No, the pallet is not.", "right"),
        ("False.", "right"),
        ("$\\text{Yes}$", "left"),
    ],
)
def test_verdicts(text: str, side: str) -> None:
    assert read_answer(LEFT, text) == side


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("The second one is the leftmost.", "1"),
        ("The second one is on the left", "1"),
        ("The first", "0"),
        ("the third region", "2"),
        ("[Region 1], not [Region 0].", "1"),
        ("Not [Region 0] but [Region 2]", "2"),
        ("**[Region 1]**", "1"),
        ("\\boxed{1}", "1"),
        ("None", None),
        ("None of them", None),
        ("Neither [Region 0].", None),
        ("Both [Region 0] and [Region 1]", None),
        ("I cannot tell.", None),
    ],
)
def test_choices(text: str, region: str | None) -> None:
    assert read_answer(CHOICE, text) == region


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The second one is on the left.", 1),
        ("The first object is on the left.", 0),
        ("The latter is to the left.", 1),
        ("Neither <region 0> nor <region 1> is on the left.", None),
        ("None of them", None),
        ("**Region 1**", 1),
        ("$\\text{Region 0}$", 0),
    ],
)
def test_choices_of_the_spatial_benchmark(text: str, expected: int | None) -> None:
    assert parse_choice(text, "left") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("None of them is taller.", None),
        ("No one knows.", None),
        ("No.", False),
        ("No, it is not.", False),
        ("**Yes**", True),
        ("$\\text{Yes}$", True),
        ("The second one is taller.", False),
        ("The first is taller.", True),
        ("The first one isn't taller.", False),
    ],
)
def test_verdicts_of_the_spatial_benchmark(text: str, expected: bool | None) -> None:
    assert parse_predicate(text, "tall") == expected


def test_mark_up_goes_and_the_text_stays() -> None:
    assert plain_answer("## **Answer**\n\n* `left`  of\u00a0[Region 0]\n") == "Answer\nleft of [Region 0]"
    assert plain_answer(r"\[Region 0\] is \textbf{left} of \text{the \textit{box}}, $5\%$") == "[Region 0] is left of the box, 5%"
