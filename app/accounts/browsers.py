"""Which browser on which system, from a User-Agent header: enough for people to recognise their own sessions."""

import re

# In this order: most browsers also claim to be Chrome or Safari, and phones claim to be computers.
_BROWSERS = {
    r"Edg(e|A|iOS)?/": "Edge",
    r"OPR/|Opera": "Opera",
    r"SamsungBrowser/": "Samsung Internet",
    r"Firefox/|FxiOS/": "Firefox",
    r"Chrome/|CriOS/|Chromium/": "Chrome",
    r"Version/.* Safari/": "Safari",
}
_SYSTEMS = {
    r"Android": "Android",
    r"iPhone|iPod": "iPhone",
    r"iPad": "iPad",
    r"Windows": "Windows",
    r"CrOS": "ChromeOS",
    r"Mac OS X|Macintosh": "macOS",
    r"Linux|X11": "Linux",
}


def browser_in_words(user_agent: str) -> str:
    """Such as "Chrome on Linux"; what cannot be told is not guessed: a program goes by its own name, such as "curl"."""
    browser, system = _first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent)
    if browser and system:
        return f"{browser} on {system}"
    if browser or system:
        return browser or f"A browser on {system}"
    program = re.match(r"[A-Za-z][\w.-]{0,30}", user_agent)
    return program[0] if program and program[0] != "Mozilla" else "Unknown browser"


def _first(known: dict[str, str], user_agent: str) -> str:
    return next((name for pattern, name in known.items() if re.search(pattern, user_agent)), "")
