"""The style sheet of report.html: one light page, sideways scrolling tables, one column on a phone."""

STYLE = """
:root { --ink: #1f2430; --quiet: #5b6472; --line: #e3e6ea; --tint: #f6f7f9; --accent: #0072b2; }
* { box-sizing: border-box; }
body {
  margin: 0; background: #fff; color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.9rem; letter-spacing: -.02em; margin: 0 0 8px; }
h2 { font-size: 1.35rem; letter-spacing: -.01em; margin: 40px 0 2px; }
h3 { font-size: 1.05rem; margin: 32px 0 8px; }
.sub, .note, figcaption { color: var(--quiet); }
.sub { margin: 0 0 12px; }
.note, figcaption { font-size: .85rem; margin: 8px 0; max-width: 75ch; }
.findings {
  margin: 0 0 20px; padding: 12px 16px 12px 34px; background: var(--tint);
  border-left: 3px solid var(--accent);
}
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table {
  border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums;
}
th, td {
  padding: 8px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
}
thead th {
  color: var(--quiet); font-weight: 600; vertical-align: bottom; white-space: normal;
  min-width: 5em; max-width: 15em;
}
tr > th:first-child {
  text-align: left; position: sticky; left: 0; background: #fff; font-weight: 600;
  max-width: 15em; white-space: normal;
}
tbody tr:last-child > * { border-bottom: 0; }
td small { display: block; color: var(--quiet); font-size: .76rem; }
td b { color: var(--accent); }
sup { color: var(--quiet); line-height: 0; }
.yardstick > * {
  background: var(--tint) !important; color: var(--quiet); font-weight: 400 !important;
}
.printed table { color: var(--quiet); }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr));
  gap: 28px; margin: 28px 0 8px;
}
figure { margin: 0; }
figure svg { width: 100%; height: auto; max-width: 520px; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; margin: 10px 0; }
article div { display: grid; grid-template-columns: 11em 1fr; gap: 12px; padding: 3px 0; }
article span { color: var(--quiet); font-size: .85rem; overflow-wrap: anywhere; }
article p { margin: 0; overflow-wrap: anywhere; }
.source p { font-weight: 600; }
.reference p { font-style: italic; }
details { margin: 40px 0; }
summary { cursor: pointer; font-weight: 600; }
dt { font-weight: 600; margin-top: 12px; }
dd { margin: 0; color: var(--quiet); font-size: .88rem; }
code { font-size: .82em; overflow-wrap: anywhere; }
@media (max-width: 560px) {
  main { padding: 20px 14px 48px; }
  article div { grid-template-columns: 1fr; gap: 0; }
  th, td { padding: 7px 9px; }
  tr > th:first-child { max-width: 8.5em; }
}
"""
