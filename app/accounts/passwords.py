"""Rules for new passwords: length, and not one that everybody tries. No composition rules, no expiry."""

from app.errors import Invalid

MIN_LENGTH, MAX_LENGTH = 12, 256

_COMMON = {
    "password", "passw0rd", "letmein", "qwerty", "qwertyuiop", "iloveyou", "administrator", "admin", "welcome",
    "monkey", "dragon", "sunshine", "football", "baseball", "princess", "superman", "trustno", "changeme", "secret",
    "attune", "rater", "operator", "overseer", "default", "login", "master", "abc", "asdfghjkl", "zxcvbnm",
}  # fmt: skip


def check_password_rules(password: str, *, email: str = "") -> None:
    """Refuse a password that is too short, too long, or guessed first.

    Raises:
        Invalid: with the rule that was broken.
    """
    if len(password) < MIN_LENGTH:
        raise Invalid(f"A password needs at least {MIN_LENGTH} characters; a sentence is good.", field="password")
    if len(password) > MAX_LENGTH or "\x00" in password:
        raise Invalid(f"A password has at most {MAX_LENGTH} characters and no NUL.", field="password")
    letters = "".join(character for character in password.lower() if character.isalpha())
    stem = letters[: len(letters) // 2] if letters[: len(letters) // 2] * 2 == letters else letters
    is_name = bool(email) and letters == "".join(c for c in email.split("@", maxsplit=1)[0].lower() if c.isalpha())
    if stem in _COMMON or is_name or len(set(password)) < 5:
        raise Invalid(
            "This password is among the first that are tried. Choose a sentence of your own.", field="password"
        )
