"""Values that texts may meet: the usual, the longest, and those that somebody made up to break them."""

from hypothesis import strategies as st

from orderbell.core.forms import FEN_MAX
from orderbell.core.wording import VARIABLES

CODES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=36)
WILD = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.text(st.sampled_from("😀👨\u200d👩🏽🇨🇳【】{}%\u202e\u0301\ufe0f\n中aé€[`שلا"), max_size=60),
    st.text(st.characters(), min_size=1, max_size=3).map(lambda text: text * 334),
    CODES,
)
KINDS: dict[str, st.SearchStrategy[str | int]] = {
    "text": WILD,
    "code": st.one_of(CODES, st.sampled_from(["`" * 36, "~" * 36, "M" * 36]), WILD),
    "money": st.one_of(st.integers(0, FEN_MAX), st.integers()),
    "date": st.one_of(st.integers(0, 4 * 10**9), st.integers()),
    "span": st.one_of(st.integers(0, 10**6), st.integers()),
}
ANY_VALUES = st.fixed_dictionaries({}, optional={name: KINDS[found.kind] for name, found in VARIABLES.items()})
INJECTIONS = (
    "{order_no}", "{{order_no}}", "${order_no}", "{order.__class__}", "{state}", "%s", "%(x)s", "\u202eabc",
    "\u2066x\u2069", "😀" * 40, "👨\u200d👩\u200d👧" * 9, "🇨🇳" * 20, "\ud83d", "【假】", "a\nb", "\u0301" * 50,
)  # fmt: skip
