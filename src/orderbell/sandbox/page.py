"""The sandbox's page for people: the latest messages, as they would look on a phone."""

from collections.abc import Iterable
from html import escape
from string import Template
from typing import Final

from orderbell.sandbox.ledger import Delivery, Entry, Summary

# The page has no script and loads nothing; whatever a message holds stays text.
CONTENT_SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_ICONS: Final = {"sms": "💬", "email": "✉️", "push": "🔔", "wechat": "🟢", "inbox": "📥"}
_NOTES: Final = {Delivery.FAILED: "not delivered", Delivery.SILENT: "receipt lost"}

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="2">
<title>Sandbox – $count messages</title>
<style>
:root { color-scheme: light dark }
:root { --back: #eef1f5; --card: #fff; --ink: #1c2330; --soft: #6b7688; --line: #dde3ea }
@media (prefers-color-scheme: dark) {
  :root { --back: #11151b; --card: #1b222c; --ink: #e6ebf2; --soft: #8e9aab; --line: #2a3340 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink) }
body { font: 15px/1.5 system-ui, "PingFang SC", sans-serif }
header { position: sticky; top: 0; padding: 14px 20px }
header { background: var(--card); border-bottom: 1px solid var(--line) }
h1 { margin: 0; font-size: 17px }
header p { margin: 2px 0 0; color: var(--soft) }
main { display: grid; gap: 14px; padding: 20px; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)) }
article { padding: 14px 16px; background: var(--card); border: 1px solid var(--line); border-radius: 18px }
article > div { display: flex; justify-content: space-between; gap: 8px; color: var(--soft); font-size: 13px }
article p { margin: 8px 0; white-space: pre-wrap; overflow-wrap: anywhere }
.sms p { padding: 9px 13px; background: var(--back); border-radius: 4px 16px 16px 16px }
h2 { margin: 8px 0 0; font-size: 15px; overflow-wrap: anywhere }
.note { color: #c2410c }
</style>
<header><h1>Sandbox provider</h1><p>$totals</p></header>
<main>
$cards
</main>
</html>
""")

_CARD: Final = Template("""<article class="$channel">
<div><span>$icon $to</span><time>$time</time></div>
$subject<p>$text</p>
<div><span>$topic</span><span class="note">$note</span></div>
</article>""")


def render(entries: Iterable[Entry], summary: Summary) -> str:
    """Show entries, in the order given, under the counts."""
    counts = [f"{count} {channel}" for channel, count in sorted(summary.channels.items())]
    totals = f"{summary.messages} messages taken" + (f": {', '.join(counts)}" if counts else "")
    if summary.repeats:
        totals += f"; {summary.repeats} handed over more than once"
    cards = "\n".join(_card(entry) for entry in entries) or "<p>No message yet.</p>"
    return _PAGE.substitute(count=summary.messages, totals=escape(totals), cards=cards)


def _card(entry: Entry) -> str:
    notes = [_NOTES.get(entry.delivery, ""), "repeated" if entry.repeat else ""]
    return _CARD.substitute(
        channel=escape(entry.channel),
        icon=_ICONS.get(entry.channel, ""),
        to=escape(entry.to),
        time=f"{entry.at:%H:%M:%S}",
        subject=f"<h2>{escape(entry.subject)}</h2>\n" if entry.subject else "",
        text=escape(entry.text),
        topic=escape(entry.topic),
        note=", ".join(note for note in notes if note),
    )
