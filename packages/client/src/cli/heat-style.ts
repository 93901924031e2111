/** Of the page, light and dark: colours that leave the text readable on all of them. */
export const HEAT_STYLE = `
:root { color-scheme: light dark; --text: #1b1b1b; --page: #fff; --quiet: #666; --line: #d5d5d5;
  --against4: #5b93dd; --against3: #8ab4e8; --against2: #b3cff2; --against1: #dae8fa;
  --along1: #fdeacd; --along2: #fcd39b; --along3: #faba67; --along4: #f39c35; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --page: #161616; --quiet: #a0a0a0; --line: #444;
  --against4: #2c63ac; --against3: #264f84; --against2: #213d61; --against1: #1c2d43;
  --along1: #3b2c17; --along2: #5a3f17; --along3: #7c5415; --along4: #a26b10; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin-top: 2rem; }
.prompt { border-left: 3px solid var(--line); padding-left: 1rem; color: var(--quiet); white-space: pre-wrap; }
.reply { font-size: 1.15rem; line-height: 1.9; white-space: pre-wrap; overflow-wrap: anywhere; }
.reply span { border-radius: 2px; padding: 0.15em 0; } .reply span:hover { outline: 1px solid var(--text); }
.legend { font-size: 0.85rem; color: var(--quiet); } .legend span { color: var(--text); padding: 0.15em 0.5em; }
.against4 { background: var(--against4); } .against3 { background: var(--against3); }
.against2 { background: var(--against2); } .against1 { background: var(--against1); }
.along1 { background: var(--along1); } .along2 { background: var(--along2); }
.along3 { background: var(--along3); } .along4 { background: var(--along4); }
table { border-collapse: collapse; font-size: 0.85rem; overflow-wrap: anywhere; }
th { text-align: left; font-weight: normal; color: var(--quiet); padding-right: 1.5rem; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); vertical-align: top; padding-block: 0.2rem; }
svg { width: 100%; margin-top: 1rem; } svg rect { fill: none; stroke: var(--line); }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
svg polyline { fill: none; stroke: var(--text); stroke-width: 1.2; vector-effect: non-scaling-stroke; }
svg .zero { stroke: var(--line); } svg .guard { stroke: var(--along4); stroke-width: 2; }
`;
